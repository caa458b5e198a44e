#include "wire/json.h"

#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "gp/error.h"

static int
append_to_buf(const char *bytes, size_t len, void *ctx)
{
    return gp__buf_append(ctx, bytes, len);
}

/* Copy a member from jansson's tree: the decoded key and string, and the value as JSON text. */
static int
copy_member(gp__json_member *out, const char *key, size_t key_len, json_t *value, gp__arena *arena)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    gp__buf text = GP__BUF_INIT;
    int rc = json_dump_callback(value, append_to_buf, &text, flags) == 0 ? 0 : GP_ENOMEM;

    *out = (gp__json_member){.key = {NULL, key_len}, .json = {NULL, text.len}};
    if (rc == 0) {
        out->key.data = gp__arena_copy(arena, key, key_len);
        out->json.data = gp__arena_copy(arena, text.data, text.len);
        rc = out->key.data != NULL && out->json.data != NULL ? 0 : GP_ENOMEM;
    }
    if (rc == 0 && json_is_string(value)) {
        out->string.len = json_string_length(value);
        out->string.data = gp__arena_copy(arena, json_string_value(value), out->string.len);
        rc = out->string.data != NULL ? 0 : GP_ENOMEM;
    }
    gp__buf_release(&text);
    return rc;
}

static json_t *
load_value(const char *text, size_t len, json_error_t *error)
{
    json_t *value = json_loadb(text, len, JSON_ALLOW_NUL, error);

    /* An integer that does not fit 64 bits becomes a real, which loses digits. */
    if (value == NULL && json_error_code(error) == json_error_numeric_overflow) {
        value = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, error);
    }
    return value;
}

ptrdiff_t
gp__json_object(gp__json_member **out, const char *text, size_t len, gp__arena *arena)
{
    json_error_t error = {0}; /* jansson does not set it if it is out of memory early */
    json_t *object = load_value(text, len, &error);
    ptrdiff_t count = 0;

    if (object == NULL) {
        return json_error_code(&error) == json_error_out_of_memory ? GP_ENOMEM : GP_EINVAL;
    }
    if (!json_is_object(object)) {
        json_decref(object);
        return GP_EINVAL;
    }
    *out = gp__arena_alloc(arena, json_object_size(object) * sizeof(**out));
    if (*out == NULL) {
        count = GP_ENOMEM;
    }
    for (void *at = json_object_iter(object); at != NULL && count >= 0;
         at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);

        /* No key holds a zero byte: jansson refuses those. */
        if (copy_member(&(*out)[count], key, strlen(key), json_object_iter_value(at), arena) < 0) {
            count = GP_ENOMEM;
            break;
        }
        count++;
    }
    json_decref(object);
    return count;
}
