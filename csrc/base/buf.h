/*
 * Layer: base. A growable array of bytes.
 */
#ifndef GP_BASE_BUF_H
#define GP_BASE_BUF_H

#include <stddef.h>

typedef struct gp__buf {
    char *data; /* owned; NULL before the first append */
    size_t len;
    size_t cap;
} gp__buf;

#define GP__BUF_INIT {NULL, 0, 0}

void gp__buf_release(gp__buf *buf);

/* Make room for |extra| more bytes. Returns 0 or GP_ENOMEM; the contents stay in either case. */
int gp__buf_reserve(gp__buf *buf, size_t extra);

int gp__buf_append(gp__buf *buf, const void *bytes, size_t len);
int gp__buf_printf(gp__buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drop the first |len| bytes, keeping the memory. */
void gp__buf_consume(gp__buf *buf, size_t len);

#endif
