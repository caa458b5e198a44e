/*
 * Layer: base. Bytes that go in at one end and out at the other, without moving those in between.
 */
#ifndef GP_BASE_FIFO_H
#define GP_BASE_FIFO_H

#include <stddef.h>

typedef struct gp__fifo {
    unsigned char *data; /* owned; NULL while nothing was ever put in */
    size_t head;         /* where the oldest byte is */
    size_t len;
    size_t cap;
} gp__fifo;

#define GP__FIFO_INIT {NULL, 0, 0, 0}

void gp__fifo_release(gp__fifo *fifo);

/* The oldest bytes, all |fifo->len| of them in one run. Valid until something is put in. */
const unsigned char *gp__fifo_front(const gp__fifo *fifo);

/*
 * Room for |len| bytes behind the newest: fill some of it, then gp__fifo_commit() those. NULL when
 * memory is short; the contents stay.
 */
unsigned char *gp__fifo_reserve(gp__fifo *fifo, size_t len);
void gp__fifo_commit(gp__fifo *fifo, size_t len);

/* Returns 0 or GP_ENOMEM. */
int gp__fifo_put(gp__fifo *fifo, const void *bytes, size_t len);

/* Drop the oldest |len| bytes, keeping the memory. */
void gp__fifo_drop(gp__fifo *fifo, size_t len);

#endif
