#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* How many bytes must follow |c| (0: it is no lead byte), and the range of the first of them. */
static size_t
count_following(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        return 1;
    }
    if (c >= 0xe0 && c <= 0xef) {
        *low = c == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        *high = c == 0xed ? 0x9f : 0xbf; /* no surrogates */
        return 2;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        *low = c == 0xf0 ? 0x90 : 0x80;
        *high = c == 0xf4 ? 0x8f : 0xbf; /* nothing beyond U+10FFFF */
        return 3;
    }
    return 0;
}

size_t
gp__utf8_next(const char *bytes, size_t len, size_t *skip)
{
    const unsigned char *in = (const unsigned char *)bytes;
    unsigned char low;
    unsigned char high;
    size_t follow;

    *skip = 1;
    if (in[0] < 0x80) {
        return 1;
    }
    follow = count_following(in[0], &low, &high);
    for (size_t i = 1; i <= follow; i++) {
        if (i >= len || in[i] < low || in[i] > high) {
            return 0;
        }
        *skip = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return follow > 0 ? follow + 1 : 0;
}

/* The length of the run of ASCII at the start, eight bytes at a time. */
static size_t
ascii_run(const char *bytes, size_t len)
{
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        uint64_t word;

        memcpy(&word, bytes + i, 8);
        if ((word & UINT64_C(0x8080808080808080)) != 0) {
            break;
        }
    }
    while (i < len && (unsigned char)bytes[i] < 0x80) {
        i++;
    }
    return i;
}

bool
gp__utf8_valid(const char *bytes, size_t len)
{
    size_t i = ascii_run(bytes, len);
    size_t skip;

    while (i < len) {
        size_t step = gp__utf8_next(bytes + i, len - i, &skip);

        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

size_t
gp__utf8_repair(char *out, const char *bytes, size_t len)
{
    size_t at = 0;
    size_t i = 0;

    while (i < len) {
        size_t skip;
        size_t step = gp__utf8_next(bytes + i, len - i, &skip);

        if (step > 0) {
            memcpy(out + at, bytes + i, step);
            at += step;
            i += step;
        } else {
            memcpy(out + at, GP__REPLACEMENT, 3);
            at += 3;
            i += skip;
        }
    }
    return at;
}

size_t
gp__utf8_put(char *out, unsigned long code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        code = 0xfffd;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
