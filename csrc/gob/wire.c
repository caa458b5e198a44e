#include "gob/wire.h"

bool
gp__gob_get_long_uint(gp__gob_cursor *cursor, uint64_t *out)
{
    const unsigned char *at = cursor->at;
    uint64_t value = 0;
    size_t count;

    if (at == cursor->end) {
        return false;
    }
    count = 256 - (size_t)*at++;
    if (count > sizeof(value) || count > (size_t)(cursor->end - at)) {
        return false;
    }
    while (count-- > 0) {
        value = value << 8 | *at++;
    }
    *out = value;
    cursor->at = at;
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
    size_t count = 0;

    for (uint64_t rest = value; rest > 0; rest >>= 8) {
        count++;
    }
    out[0] = (unsigned char)(256 - count);
    for (size_t i = count; i > 0; i--) {
        out[i] = (unsigned char)value;
        value >>= 8;
    }
    return 1 + count;
}
