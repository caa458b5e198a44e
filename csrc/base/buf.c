#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/error.h"

enum { SMALLEST = 256 };

void
gp__buf_release(gp__buf *buf)
{
    gp__free(buf->data);
    *buf = (gp__buf)GP__BUF_INIT;
}

int
gp__buf_reserve(gp__buf *buf, size_t extra)
{
    size_t cap = buf->cap > 0 ? buf->cap : SMALLEST;
    char *data;

    if (extra <= buf->cap - buf->len) {
        return 0;
    }
    if (extra > SIZE_MAX / 2 - buf->len) {
        return GP_ENOMEM;
    }
    while (cap < buf->len + extra) {
        cap *= 2;
    }
    data = gp__realloc(buf->data, cap);
    if (data == NULL) {
        return GP_ENOMEM;
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int
gp__buf_append(gp__buf *buf, const void *bytes, size_t len)
{
    int rc = gp__buf_reserve(buf, len);

    if (rc == 0 && len > 0) {
        memcpy(buf->data + buf->len, bytes, len);
        buf->len += len;
    }
    return rc;
}

int
gp__buf_printf(gp__buf *buf, const char *format, ...)
{
    va_list args;
    char *text;
    int rc;

    va_start(args, format);
    text = gp__vformat(format, args);
    va_end(args);
    if (text == NULL) {
        return GP_ENOMEM;
    }
    rc = gp__buf_append(buf, text, strlen(text));
    gp__free(text);
    return rc;
}

void
gp__buf_consume(gp__buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf->len = 0;
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}
