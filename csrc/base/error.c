#include "gp/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

const char *
gp_strerror(int code)
{
    switch (code) {
#define STATUS_CASE(name, value, text) \
    case name:                         \
        return text;
        GP_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    default:
        return code >= 0 ? "success" : "unknown error";
    }
}

static void
set_message(gp_error *err, int code, char *message)
{
    gp_error_release(err);
    err->code = code;
    err->message = message;
}

int
gp_error_set(gp_error *err, int code, const char *format, ...)
{
    va_list args;

    if (err != NULL) {
        va_start(args, format);
        set_message(err, code, gp__vformat(format, args));
        va_end(args);
    }
    return code;
}

int
gp_error_set_errno(gp_error *err, int errnum, const char *format, ...)
{
    va_list args;
    char *what;
    char buffer[128];

    if (err == NULL) {
        return GP_EOS;
    }
    va_start(args, format);
    what = gp__vformat(format, args);
    va_end(args);
    set_message(err, GP_EOS,
                gp__format("%s: %s", what != NULL ? what : "system call",
                           gp__errno_text(errnum, buffer, sizeof(buffer))));
    gp__free(what);
    err->number = errnum;
    return GP_EOS;
}

int
gp_error_prefix(gp_error *err, const char *format, ...)
{
    va_list args;
    char *prefix;
    char *message = NULL;

    if (err == NULL) {
        return 0;
    }
    va_start(args, format);
    prefix = gp__vformat(format, args);
    va_end(args);
    if (prefix != NULL) {
        message = gp__format("%s: %s", prefix, gp_error_message(err));
        gp__free(prefix);
    }
    if (message != NULL) {
        gp__free(err->message);
        err->message = message;
    }
    return err->code;
}

void
gp_error_set_detail(gp_error *err, const void *bytes, size_t len)
{
    if (err == NULL) {
        return;
    }
    gp__free(err->detail);
    err->detail = gp__memdup(bytes, len);
    err->detail_len = err->detail != NULL ? len : 0;
}

const char *
gp_error_message(const gp_error *err)
{
    return err->message != NULL ? err->message : gp_strerror(err->code);
}

void
gp_error_release(gp_error *err)
{
    static const gp_error empty = GP_ERROR_INIT;

    gp__free(err->message);
    gp__free(err->detail);
    *err = empty;
}
