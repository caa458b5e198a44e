#include "gob/path.h"

#include <inttypes.h>
#include <stdarg.h>

#include "base/alloc.h"
#include "base/text.h"
#include "gob/wire.h"

enum { LONGEST = 500, LONGEST_KEY = 40 };

static bool
has_room(gp__buf *path)
{
    if (path->len < LONGEST) {
        return true;
    }
    if (path->len > 0 && path->data[path->len - 1] != '.') {
        gp__buf_append(path, "...", 3);
    }
    return false;
}

void
gp__gob_path_field(gp__buf *path, const char *name)
{
    if (has_room(path)) {
        gp__buf_printf(path, "%s%.100s", path->len > 0 ? "." : "", name);
    }
}

void
gp__gob_path_any(gp__buf *path)
{
    if (has_room(path)) {
        gp__buf_append(path, "[]", 2);
    }
}

void
gp__gob_path_index(gp__buf *path, size_t index)
{
    if (has_room(path)) {
        gp__buf_printf(path, "[%zu]", index);
    }
}

void
gp__gob_path_entry(gp__buf *path, gp_gob_kind kind, const unsigned char *key, size_t len)
{
    gp__gob_cursor cursor = {key, key + len};
    char quoted[GP__QUOTED];
    const unsigned char *text;
    size_t text_len;
    uint64_t number;

    if (!has_room(path)) {
        return;
    }
    if (kind == GP_GOB_STRING && gp__gob_get_bytes(&cursor, &text, &text_len)) {
        size_t shown = text_len < LONGEST_KEY ? text_len : LONGEST_KEY;

        gp__buf_printf(path, "[%s%s]", gp__quote(quoted, text, shown),
                       shown < text_len ? "..." : "");
    } else if (kind == GP_GOB_INT && gp__gob_get_uint(&cursor, &number)) {
        gp__buf_printf(path, "[%" PRId64 "]", gp__gob_int_of(number));
    } else if (kind == GP_GOB_UINT && gp__gob_get_uint(&cursor, &number)) {
        gp__buf_printf(path, "[%" PRIu64 "]", number);
    } else {
        gp__buf_append(path, "[...]", 5);
    }
}

void
gp__gob_path_remark(gp__buf *path, const void *text, size_t len)
{
    if (has_room(path)) {
        gp__buf_append(path, "(", 1);
        gp__buf_append(path, text, len < 100 ? len : 100);
        gp__buf_append(path, ")", 1);
    }
}

int
gp__gob_fail(gp_error *err, int code, gp__buf *path, const char *format, ...)
{
    va_list args;
    char *message;

    if (path->len == 0) {
        gp__buf_append(path, "value", 5);
    }
    if (code == GP_EUSER) {
        gp_error_set(err, code, "%.*s", (int)path->len, path->data != NULL ? path->data : "");
    } else if (code != GP_EGOB) {
        gp_error_set(err, code, "%.*s: %s", (int)path->len, path->data != NULL ? path->data : "",
                     gp_strerror(code));
    } else {
        va_start(args, format);
        message = gp__vformat(format, args);
        va_end(args);
        gp_error_set(err, code, "%.*s: %s", (int)path->len, path->data != NULL ? path->data : "",
                     message != NULL ? message : gp_strerror(code));
        gp_error_set_detail(err, path->data, path->len);
        gp__free(message);
    }
    gp__buf_release(path);
    return code;
}

int
gp__gob_corrupt(gp_error *err, const char *format, ...)
{
    va_list args;
    char *message;

    va_start(args, format);
    message = gp__vformat(format, args);
    va_end(args);
    gp_error_set(err, GP_EGOB, "%s", message != NULL ? message : gp_strerror(GP_EGOB));
    gp__free(message);
    if (err != NULL) {
        err->number = GP_GOB_CORRUPT;
    }
    return GP_EGOB;
}
