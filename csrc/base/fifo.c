#include "base/fifo.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/error.h"

enum { SMALLEST = 256 };

void
gp__fifo_release(gp__fifo *fifo)
{
    gp__free(fifo->data);
    *fifo = (gp__fifo)GP__FIFO_INIT;
}

const unsigned char *
gp__fifo_front(const gp__fifo *fifo)
{
    return fifo->len > 0 ? fifo->data + fifo->head : fifo->data;
}

/*
 * Bytes are moved to the front only if at least as many have been dropped before them, or to memory
 * with room for at least as many new ones: so, on average, each byte is moved a bounded number of
 * times.
 */
static int
make_room(gp__fifo *fifo, size_t need)
{
    size_t cap = fifo->cap > 0 ? fifo->cap : SMALLEST;
    unsigned char *data;

    if (fifo->head > 0 && fifo->len <= fifo->head && need <= fifo->cap) {
        memcpy(fifo->data, fifo->data + fifo->head, fifo->len);
        fifo->head = 0;
        return 0;
    }
    while (cap / 2 < need) {
        cap *= 2;
    }
    data = gp__malloc(cap);
    if (data == NULL) {
        return GP_ENOMEM;
    }
    if (fifo->len > 0) {
        memcpy(data, fifo->data + fifo->head, fifo->len);
    }
    gp__free(fifo->data);
    fifo->data = data;
    fifo->head = 0;
    fifo->cap = cap;
    return 0;
}

unsigned char *
gp__fifo_reserve(gp__fifo *fifo, size_t len)
{
    if (len > SIZE_MAX / 4 - fifo->len) {
        return NULL;
    }
    if (fifo->cap - fifo->head - fifo->len < len || fifo->data == NULL) {
        if (make_room(fifo, fifo->len + len) < 0) {
            return NULL;
        }
    }
    return fifo->data + fifo->head + fifo->len;
}

void
gp__fifo_commit(gp__fifo *fifo, size_t len)
{
    fifo->len += len;
}

int
gp__fifo_put(gp__fifo *fifo, const void *bytes, size_t len)
{
    unsigned char *room = gp__fifo_reserve(fifo, len);

    if (room == NULL) {
        return GP_ENOMEM;
    }
    if (len > 0) {
        memcpy(room, bytes, len);
    }
    fifo->len += len;
    return 0;
}

void
gp__fifo_drop(gp__fifo *fifo, size_t len)
{
    if (len >= fifo->len) {
        fifo->head = 0;
        fifo->len = 0;
        return;
    }
    fifo->head += len;
    fifo->len -= len;
}
