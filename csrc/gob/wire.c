#include "gob/wire.h"

enum { WIDTH = sizeof(uint64_t) };

bool
gp__gob_get_long_uint(gp__gob_cursor *cursor, uint64_t *out)
{
    const unsigned char *at = cursor->at;
    uint64_t value = 0;
    size_t left;
    size_t count;

    if (at == cursor->end) {
        return false;
    }
    count = 256 - (size_t)*at++;
    left = (size_t)(cursor->end - at);
    if (count > WIDTH || count > left) {
        return false;
    }
    if (left >= WIDTH) {
        /* Compilers make one load of it. */
        value = (uint64_t)at[0] << 56 | (uint64_t)at[1] << 48 | (uint64_t)at[2] << 40 |
                (uint64_t)at[3] << 32 | (uint64_t)at[4] << 24 | (uint64_t)at[5] << 16 |
                (uint64_t)at[6] << 8 | (uint64_t)at[7];
        value >>= 8 * (WIDTH - count);
    } else {
        for (size_t i = 0; i < count; i++) {
            value = value << 8 | at[i];
        }
    }
    *out = value;
    cursor->at = at + count;
    return true;
}

bool
gp__gob_get_bytes(gp__gob_cursor *cursor, const unsigned char **bytes, size_t *len)
{
    gp__gob_cursor rest = *cursor;
    uint64_t count;

    if (!gp__gob_get_uint(&rest, &count) || count > gp__gob_left(&rest)) {
        return false;
    }
    *bytes = rest.at;
    *len = (size_t)count;
    cursor->at = rest.at + count;
    return true;
}

size_t
gp__gob_put_long_uint(unsigned char *out, uint64_t value)
{
    size_t zeros = (size_t)__builtin_clzll(value) / 8;
    uint64_t shifted = value << 8 * zeros;

    out[0] = (unsigned char)(256 - (WIDTH - zeros));
    /* Compilers make one store of it. What is behind the number is not part of the result. */
    out[1] = (unsigned char)(shifted >> 56);
    out[2] = (unsigned char)(shifted >> 48);
    out[3] = (unsigned char)(shifted >> 40);
    out[4] = (unsigned char)(shifted >> 32);
    out[5] = (unsigned char)(shifted >> 24);
    out[6] = (unsigned char)(shifted >> 16);
    out[7] = (unsigned char)(shifted >> 8);
    out[8] = (unsigned char)shifted;
    return 1 + WIDTH - zeros;
}
