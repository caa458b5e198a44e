#include "wire/hclog.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "base/utf8.h"
#include "wire/json.h"
#include "wire/rfc3339.h"

enum {
    MOST_MEMBERS = 40, /* an entry with more is parsed by jansson, which has no such limit */
    FIRST_MEMBERS = 4, /* how many are searched for the level, to skip an entry early */
};

/* The results of parse_entry(), besides GP_ENOMEM. */
enum { NOT_AN_ENTRY, BELOW_THRESHOLD, AN_ENTRY };

/* The level that hclog calls |name|; 0: there is none. */
static int
level_of_name(gp__text name)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {
        {"info", GP_INFO},   {"debug", GP_DEBUG}, {"warn", GP_WARN},
        {"error", GP_ERROR}, {"trace", GP_TRACE},
    };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (name.len == strlen(levels[i].name) &&
            strncasecmp(name.data, levels[i].name, name.len) == 0) {
            return levels[i].level;
        }
    }
    return 0;
}

/* ---- Lines of text --------------------------------------------------------------------------- */

/* The level of the tag at the beginning of a line, "[INFO]" for instance; 0: there is none. */
static int
level_of_tag(gp__text line)
{
    static const struct {
        const char *tag;
        int level;
    } tags[] = {
        {"[TRACE]", GP_TRACE}, {"[DEBUG]", GP_DEBUG}, {"[INFO]", GP_INFO},
        {"[WARN]", GP_WARN},   {"[ERROR]", GP_ERROR},
    };

    if (line.len == 0 || line.data[0] != '[') {
        return 0;
    }
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        if (gp__text_starts(line, tags[i].tag)) {
            return tags[i].level;
        }
    }
    return 0;
}

/* Whether a line begins a traceback; those of exception groups are indented and framed. */
static bool
begins_traceback(gp__text line)
{
    while (line.len > 0 && (line.data[0] == ' ' || line.data[0] == '|' || line.data[0] == '+')) {
        line.data++;
        line.len--;
    }
    return gp__text_starts(line, "Traceback (most recent call last):") ||
           gp__text_starts(line, "Exception Group Traceback (most recent call last):");
}

/* Whether a line is the one that Python prints between two chained tracebacks. */
static bool
links_tracebacks(gp__text line)
{
    return gp__text_starts(line, "During handling of the above exception, another exception") ||
           gp__text_starts(line, "The above exception was the direct cause of the following");
}

/* The state after an untagged line (the diagram in the header). */
static gp__hclog_state
next_state(gp__hclog_state state, gp__text line)
{
    if (state == GP__HCLOG_PANIC || gp__text_starts(line, "panic: ") ||
        gp__text_starts(line, "fatal error: ")) {
        return GP__HCLOG_PANIC;
    }
    if (begins_traceback(line)) {
        return GP__HCLOG_TRACEBACK;
    }
    switch (state) {
    case GP__HCLOG_TRACEBACK:
        /* The frames are indented; the first line that is not indented names the exception. */
        return line.len == 0 || line.data[0] == ' ' || line.data[0] == '\t' ? GP__HCLOG_TRACEBACK
                                                                            : GP__HCLOG_RAISED;
    case GP__HCLOG_RAISED:
        if (links_tracebacks(line)) {
            return GP__HCLOG_CHAINED;
        }
        return line.len == 0 ? GP__HCLOG_RAISED : GP__HCLOG_PLAIN;
    case GP__HCLOG_CHAINED:
        return line.len == 0 ? GP__HCLOG_CHAINED : GP__HCLOG_PLAIN;
    default:
        return GP__HCLOG_PLAIN;
    }
}

static int
parse_text(gp__hclog *hclog, gp_log_record *out, gp__text line, int threshold, gp__arena *arena)
{
    int level = level_of_tag(line);

    if (level == 0) {
        hclog->state = next_state(hclog->state, line);
        level = hclog->state == GP__HCLOG_PLAIN ? GP_DEBUG : GP_ERROR;
    }
    if (level < threshold) {
        return 0;
    }
    out->level = level;
    out->message = gp__arena_copy(arena, line.data, line.len);
    out->message_len = line.len;
    return out->message != NULL ? 1 : GP_ENOMEM;
}

/* ---- hclog entries --------------------------------------------------------------------------- */

/* Decode a string in place: in the arena's copy of the line, which can be written to. */
static gp__text
decode_string(const gp__json_member *member)
{
    gp__text text = member->string;

    if (member->escaped) {
        text.len = gp__json_decode((char *)(uintptr_t)text.data, text.len);
    }
    return text;
}

/* Set the record from the members of an entry. Returns as parse_entry(). */
static int
fill_record(gp_log_record *out, const gp__json_member *members, size_t count, gp__arena *arena)
{
    gp_log_field *fields = NULL;
    gp__text level = {NULL, 0};
    size_t fields_count = 0;

    if (count > 0) {
        fields = gp__arena_alloc(arena, count * sizeof(*fields));
        if (fields == NULL) {
            return GP_ENOMEM;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const gp__json_member *member = &members[i];

        if (member->key.len > 0 && member->key.data[0] == '@') {
            if (gp__text_is(member->key, "@level")) {
                level = member->string;
                continue;
            }
            if (gp__text_is(member->key, "@message")) {
                gp__text message = decode_string(member);

                if (message.data == NULL) {
                    return NOT_AN_ENTRY;
                }
                out->message = message.data;
                out->message_len = message.len;
                continue;
            }
            if (gp__text_is(member->key, "@module") && member->string.data != NULL) {
                gp__text module = decode_string(member);

                out->module = module.data;
                out->module_len = module.len;
                continue;
            }
            if (gp__text_is(member->key, "@timestamp") && member->string.data != NULL &&
                gp__rfc3339_parse(member->string, &out->created)) {
                continue;
            }
        }
        fields[fields_count++] = (gp_log_field){
            .key = member->key.data,
            .key_len = member->key.len,
            .json = member->json.data,
            .json_len = member->json.len,
        };
    }
    out->level = level.data != NULL ? level_of_name(level) : 0;
    if (out->message == NULL) {
        out->message = "";
    }
    out->fields = fields;
    out->fields_count = fields_count;
    return out->level != 0 ? AN_ENTRY : NOT_AN_ENTRY;
}

static int
parse_with_jansson(gp_log_record *out, gp__text line, gp__arena *arena)
{
    gp__json_member *members;
    ptrdiff_t count = gp__json_object(&members, line.data, line.len, arena);

    if (count < 0) {
        return count == GP_ENOMEM ? GP_ENOMEM : NOT_AN_ENTRY;
    }
    return fill_record(out, members, (size_t)count, arena);
}

/*
 * Whether the level of an entry is below the threshold. Loggers write @level among the first keys,
 * so this is found out from a few bytes, before the line is copied. A line that turns out to be no
 * entry would be a plain line with the level DEBUG, and is dropped as well.
 */
static bool
is_below_threshold(gp__text line, int threshold)
{
    gp__json_scanner scanner;
    gp__json_member member;

    if (threshold <= GP_DEBUG) {
        return false;
    }
    gp__json_scan(&scanner, line.data, line.len);
    for (int i = 0; i < FIRST_MEMBERS && gp__json_scan_next(&scanner, &member) == 1; i++) {
        if (gp__text_is(member.key, "@level") && member.string.data != NULL) {
            int level = level_of_name(member.string);

            return level != 0 && level < threshold;
        }
    }
    return false;
}

/* Copy a line to the arena as valid UTF-8, which jansson and JSON text require. */
static int
copy_line(gp__text *line, gp__arena *arena)
{
    bool valid = gp__utf8_valid(line->data, line->len);
    char *copy;

    if (line->len > SIZE_MAX / 3) {
        return GP_ENOMEM;
    }
    copy = gp__arena_alloc(arena, valid ? line->len : line->len * 3);
    if (copy == NULL) {
        return GP_ENOMEM;
    }
    if (valid) {
        memcpy(copy, line->data, line->len);
    } else {
        line->len = gp__utf8_repair(copy, line->data, line->len);
    }
    line->data = copy;
    return 0;
}

static int
parse_entry(gp__hclog *hclog, gp_log_record *out, gp__text line, int threshold, gp__arena *arena)
{
    gp__json_member members[MOST_MEMBERS];
    gp__json_scanner scanner;
    size_t count = 0;
    int found = 1;
    int rc;

    if (hclog->state == GP__HCLOG_PLAIN && is_below_threshold(line, threshold)) {
        return BELOW_THRESHOLD;
    }
    if (copy_line(&line, arena) < 0) {
        return GP_ENOMEM;
    }
    gp__json_scan(&scanner, line.data, line.len);
    while (count < MOST_MEMBERS && (found = gp__json_scan_next(&scanner, &members[count])) == 1) {
        count++;
    }
    rc =
        found == 0 ? fill_record(out, members, count, arena) : parse_with_jansson(out, line, arena);
    return rc == AN_ENTRY && out->level < threshold ? BELOW_THRESHOLD : rc;
}

int
gp__hclog_parse(gp__hclog *hclog, gp_log_record *out, const char *line, size_t len, int threshold,
                gp__arena *arena)
{
    const gp_log_record empty = {0};
    gp__text text = {line, len};
    int rc = NOT_AN_ENTRY;

    *out = empty;
    if (len > 1 && line[0] == '{') {
        rc = parse_entry(hclog, out, text, threshold, arena);
    }
    switch (rc) {
    case NOT_AN_ENTRY:
        *out = empty;
        return parse_text(hclog, out, text, threshold, arena);
    case BELOW_THRESHOLD:
        return 0;
    case AN_ENTRY:
        return 1;
    default:
        return rc;
    }
}
