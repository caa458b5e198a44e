/*
 * Layer: gob. The numbers that gob is made of, as bytes.
 *
 *     uint   below 128 one byte; else the negated count of bytes, then these, big-endian
 *     int    a uint: the value shifted left by one, complemented if bit 0 is set
 *     float  a uint: the bytes of an IEEE 754 double in reverse order
 *
 * Pure functions, any thread.
 */
#ifndef GP_GOB_WIRE_H
#define GP_GOB_WIRE_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GP__GOB_UINT_MOST = 9 }; /* bytes of the longest uint */

/* The part of some bytes that has not been read. */
typedef struct gp__gob_cursor {
    const unsigned char *at; /* borrowed */
    const unsigned char *end;
} gp__gob_cursor;

static inline size_t
gp__gob_left(const gp__gob_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

/* gp__gob_get_uint() for everything but numbers of one byte. */
bool gp__gob_get_long_uint(gp__gob_cursor *cursor, uint64_t *out);

/*
 * Read a uint. Returns false, and leaves the cursor, if the bytes end before it does or it has more
 * than 64 bits. Leading zeros are accepted, as Go does.
 */
static inline bool
gp__gob_get_uint(gp__gob_cursor *cursor, uint64_t *out)
{
    if (cursor->at < cursor->end && *cursor->at < 0x80) {
        *out = *cursor->at++;
        return true;
    }
    return gp__gob_get_long_uint(cursor, out);
}

static inline int64_t
gp__gob_int_of(uint64_t value)
{
    /* Two's complement of the same width, so that the conversion keeps the bits. */
    return (int64_t)(value & 1 ? ~(value >> 1) : value >> 1);
}

static inline bool
gp__gob_get_int(gp__gob_cursor *cursor, int64_t *out)
{
    uint64_t value;

    if (!gp__gob_get_uint(cursor, &value)) {
        return false;
    }
    *out = gp__gob_int_of(value);
    return true;
}

static inline uint64_t
gp__gob_reverse(uint64_t value)
{
    return __builtin_bswap64(value);
}

static inline double
gp__gob_float_of(uint64_t value)
{
    uint64_t bits = gp__gob_reverse(value);
    double number;

    memcpy(&number, &bits, sizeof(number));
    return number;
}

/*
 * Read a count of bytes and skip that many. Returns false, and leaves the cursor, if they are not
 * all there.
 */
bool gp__gob_get_bytes(gp__gob_cursor *cursor, const unsigned char **bytes, size_t *len);

/* gp__gob_put_uint() for everything but numbers of one byte. */
size_t gp__gob_put_long_uint(unsigned char *out, uint64_t value);

/*
 * Write a uint to |out|, which has room for GP__GOB_UINT_MOST bytes, all of which may be written
 * to. Returns its length.
 */
static inline size_t
gp__gob_put_uint(unsigned char *out, uint64_t value)
{
    if (value < 0x80) {
        *out = (unsigned char)value;
        return 1;
    }
    return gp__gob_put_long_uint(out, value);
}

static inline uint64_t
gp__gob_uint_of(int64_t value)
{
    return value < 0 ? ~(uint64_t)value << 1 | 1 : (uint64_t)value << 1;
}

static inline size_t
gp__gob_put_int(unsigned char *out, int64_t value)
{
    return gp__gob_put_uint(out, gp__gob_uint_of(value));
}

static inline uint64_t
gp__gob_bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return gp__gob_reverse(bits);
}

/*
 * Round to 32 bits. As in Go infinity fits, and what is too small becomes 0; false if the number is
 * too large.
 */
static inline bool
gp__gob_narrow(double *value)
{
    double size = *value < 0 ? -*value : *value;

    if (size > (double)FLT_MAX && size <= DBL_MAX) {
        return false;
    }
    *value = (double)(float)*value;
    return true;
}

#endif
