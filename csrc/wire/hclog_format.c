#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"
#include "gp/log.h"
#include "wire/rfc3339.h"

/* Writes what fits into |out|; |len| counts all that was put. */
typedef struct writer {
    char *out; /* borrowed */
    size_t size;
    size_t len;
} writer;

static void
put_bytes(writer *to, const char *bytes, size_t len)
{
    if (to->len < to->size) {
        size_t room = to->size - to->len;

        memcpy(to->out + to->len, bytes, len < room ? len : room);
    }
    to->len += len;
}

static void
put_text(writer *to, const char *text)
{
    put_bytes(to, text, strlen(text));
}

static void
put_escape(writer *to, unsigned char c)
{
    char escape[8];

    switch (c) {
    case '"':
        put_text(to, "\\\"");
        break;
    case '\\':
        put_text(to, "\\\\");
        break;
    case '\n':
        put_text(to, "\\n");
        break;
    case '\r':
        put_text(to, "\\r");
        break;
    case '\t':
        put_text(to, "\\t");
        break;
    default:
        snprintf(escape, sizeof(escape), "\\u%04x", c);
        put_text(to, escape);
    }
}

static void
put_string(writer *to, const char *bytes, size_t len)
{
    size_t i = 0;

    put_text(to, "\"");
    while (i < len) {
        unsigned char c = (unsigned char)bytes[i];
        size_t skip;
        size_t step = gp__utf8_next(bytes + i, len - i, &skip);

        if (c < 0x20 || c == '"' || c == '\\') {
            put_escape(to, c);
        } else if (step > 0) {
            put_bytes(to, bytes + i, step);
        } else {
            put_text(to, GP__REPLACEMENT);
        }
        i += skip;
    }
    put_text(to, "\"");
}

/*
 * Put JSON text on one line: outside of strings, where it is white space, a line break may occur.
 */
static void
put_json(writer *to, const char *json, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool line_break = json[i] == '\n' || json[i] == '\r';

        put_bytes(to, line_break ? " " : json + i, 1);
    }
}

static const char *
level_name(int level)
{
    return level >= GP_ERROR   ? "error"
           : level >= GP_WARN  ? "warn"
           : level >= GP_INFO  ? "info"
           : level >= GP_DEBUG ? "debug"
                               : "trace";
}

/* Whether hclog itself writes the key of |field|. */
static bool
is_reserved(const gp_log_field *field)
{
    gp__text key = {field->key, field->key_len};

    return gp__text_is(key, "@level") || gp__text_is(key, "@message") ||
           gp__text_is(key, "@module") || gp__text_is(key, "@timestamp");
}

size_t
gp_hclog_format(char *out, size_t size, const gp_hclog_entry *entry)
{
    writer to = {out, size, 0};
    char timestamp[GP__RFC3339_SIZE];

    put_text(&to, "{\"@level\":\"");
    put_text(&to, level_name(entry->level));
    put_text(&to, "\",\"@message\":");
    put_string(&to, entry->message, entry->message_len);
    if (entry->module != NULL) {
        put_text(&to, ",\"@module\":");
        put_string(&to, entry->module, entry->module_len);
    }
    gp__rfc3339_format(timestamp, entry->timestamp_us);
    put_text(&to, ",\"@timestamp\":\"");
    put_text(&to, timestamp);
    put_text(&to, "\"");
    for (size_t i = 0; i < entry->fields_count; i++) {
        const gp_log_field *field = &entry->fields[i];

        if (!is_reserved(field)) {
            put_text(&to, ",");
            put_string(&to, field->key, field->key_len);
            put_text(&to, ":");
            put_json(&to, field->json, field->json_len);
        }
    }
    put_text(&to, "}\n");
    return to.len;
}
