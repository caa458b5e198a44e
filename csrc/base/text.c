#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

bool
gp__text_is(gp__text text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

bool
gp__text_starts(gp__text text, const char *prefix)
{
    size_t len = strlen(prefix);

    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

gp__text
gp__text_trim(gp__text text)
{
    while (text.len > 0 && is_space(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && is_space(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

bool
gp__text_int(gp__text text, int *out)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    size_t i = negative || (text.len > 0 && text.data[0] == '+') ? 1 : 0;
    long long value = 0;

    if (i == text.len) {
        return false;
    }
    for (; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (text.data[i] - '0');
        if (value > (long long)INT_MAX + 1) {
            return false;
        }
    }
    value = negative ? -value : value;
    if (value > INT_MAX) {
        return false;
    }
    *out = (int)value;
    return true;
}

/* glibc's strerror_r() returns the text; POSIX's fills the buffer and returns 0 or an error. */
static const char *
from_glibc(const char *text, char *buffer, size_t size, int errnum)
{
    (void)buffer;
    (void)size;
    (void)errnum;
    return text;
}

static const char *
from_posix(int failed, char *buffer, size_t size, int errnum)
{
    if (failed != 0) {
        snprintf(buffer, size, "error %d", errnum);
    }
    return buffer;
}

const char *
gp__errno_text(int errnum, char *out, size_t size)
{
    return _Generic(strerror_r(errnum, out, size), char *: from_glibc, int: from_posix)(
        strerror_r(errnum, out, size), out, size, errnum);
}

/* The length of the printable UTF-8 character at |bytes|, or 0 when it has to be escaped. */
static size_t
printable_length(const unsigned char *bytes, size_t len)
{
    size_t need = bytes[0] < 0x80 ? 1 : bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;

    if (bytes[0] < 0x20 || bytes[0] == 0x7f || bytes[0] == '"' || bytes[0] == '\\') {
        return 0;
    }
    if (need > len || (bytes[0] >= 0x80 && bytes[0] < 0xc3) || bytes[0] > 0xf4) {
        return 0; /* C1 control characters begin with 0xc2 */
    }
    for (size_t i = 1; i < need; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return need;
}

static size_t
write_escape(char *out, unsigned char c)
{
    switch (c) {
    case '\n':
        memcpy(out, "\\n", 2);
        return 2;
    case '\r':
        memcpy(out, "\\r", 2);
        return 2;
    case '\t':
        memcpy(out, "\\t", 2);
        return 2;
    case '"':
    case '\\':
        out[0] = '\\';
        out[1] = (char)c;
        return 2;
    default:
        snprintf(out, 5, "\\x%02x", c);
        return 4;
    }
}

const char *
gp__quote(char out[GP__QUOTED], const void *bytes, size_t len)
{
    /* What follows the text: the closing quote and "... (N bytes)". */
    enum { TRAILER = 48 };
    const unsigned char *in = bytes;
    size_t at = 0;
    size_t i = 0;

    out[at++] = '"';
    while (i < len && at + 4 < GP__QUOTED - TRAILER) {
        size_t whole = printable_length(in + i, len - i);

        if (whole > 0) {
            memcpy(out + at, in + i, whole);
            at += whole;
            i += whole;
        } else {
            at += write_escape(out + at, in[i++]);
        }
    }
    out[at++] = '"';
    out[at] = '\0';
    if (i < len) {
        snprintf(out + at, GP__QUOTED - at, "... (%zu bytes)", len);
    }
    return out;
}
