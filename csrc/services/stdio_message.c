#include "services/stdio_message.h"

gp_bytes
gp__stdio_message(const gp__stdio_chunk *chunk)
{
    unsigned char length[GP__STDIO_ROOM];
    size_t size = chunk->len;
    size_t count = 0;
    unsigned char *at;

    do {
        length[count++] = (unsigned char)((size & 0x7f) | 0x80);
        size >>= 7;
    } while (size > 0);
    length[count - 1] &= 0x7f;
    at = chunk->bytes - count - 3;
    at[0] = 1 << 3;
    at[1] = (unsigned char)chunk->channel;
    at[2] = 2 << 3 | 2;
    for (size_t i = 0; i < count; i++) {
        at[3 + i] = length[i];
    }
    return (gp_bytes){at, count + 3 + chunk->len};
}
