/*
 * Layer: base. A queue of bytes, which adds and drops without moving those in between.
 */
#ifndef GP_BASE_FIFO_H
#define GP_BASE_FIFO_H

#include <stddef.h>

typedef struct gp__fifo {
    unsigned char *data; /* owned; NULL before the first put */
    size_t head;         /* where the oldest byte is */
    size_t len;
    size_t cap;
} gp__fifo;

#define GP__FIFO_INIT {NULL, 0, 0, 0}

void gp__fifo_release(gp__fifo *fifo);

/* All |fifo->len| bytes, the oldest first. Valid until bytes are reserved or put. */
const unsigned char *gp__fifo_front(const gp__fifo *fifo);

/*
 * Room for |len| bytes after the newest: fill some or all of it, then pass their number to
 * gp__fifo_commit(). NULL when memory is short; the contents stay.
 */
unsigned char *gp__fifo_reserve(gp__fifo *fifo, size_t len);
void gp__fifo_commit(gp__fifo *fifo, size_t len);

/* Returns 0 or GP_ENOMEM. */
int gp__fifo_put(gp__fifo *fifo, const void *bytes, size_t len);

/* Drop the oldest |len| bytes, keeping the memory. */
void gp__fifo_drop(gp__fifo *fifo, size_t len);

#endif
