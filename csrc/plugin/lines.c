#include "plugin/lines.h"

#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_LIMIT = 64 * 1024,
    KEPT = 4096, /* bytes; a larger buffer is freed while there is no unfinished line */
};

void
gp__lines_init(gp__lines *lines, size_t limit)
{
    *lines = (gp__lines){.limit = limit > 0 ? limit : DEFAULT_LIMIT};
}

void
gp__lines_release(gp__lines *lines)
{
    gp__buf_release(&lines->carry);
}

static void
count_record(gp__lines *lines, gp__batch *batch, int rc)
{
    if (rc > 0) {
        batch->count++;
    } else if (rc == 0) {
        batch->skipped = true;
    } else {
        lines->lost++;
    }
}

/* Add a record with |text| as its message. Returns 1 or GP_ENOMEM. */
static int
put_record(gp__batch *batch, int level, const char *text, size_t len)
{
    gp_log_record *record = gp__batch_slot(batch);

    if (record == NULL) {
        return GP_ENOMEM;
    }
    *record = (gp_log_record){.level = level, .message_len = len};
    record->message = gp__arena_copy(&batch->arena, text, len);
    return record->message != NULL ? 1 : GP_ENOMEM;
}

/* Report how many lines were dropped, now that there is memory again. */
static void
report_lost(gp__lines *lines, gp__batch *batch, int level)
{
    char text[80];
    int len = snprintf(text, sizeof(text),
                       "%zu lines of this plugin's log were lost: out of memory", lines->lost);

    if (level > GP_WARN) {
        lines->lost = 0;
    } else if (put_record(batch, GP_WARN, text, (size_t)len) > 0) {
        batch->count++;
        lines->lost = 0;
    }
}

void
gp__lines_add(gp__lines *lines, gp__batch *batch, const char *message, int level)
{
    count_record(lines, batch,
                 level > GP_WARN ? 0 : put_record(batch, GP_WARN, message, strlen(message)));
}

static void
add_line(gp__lines *lines, gp__batch *batch, const char *line, size_t len, int level)
{
    gp_log_record *record;

    if (level > GP_ERROR) {
        batch->skipped = true;
        return;
    }
    if (lines->lost > 0) {
        report_lost(lines, batch, level);
    }
    if (len > 0 && line[len - 1] == '\r') {
        len--;
    }
    record = gp__batch_slot(batch);
    count_record(lines, batch,
                 record == NULL
                     ? GP_ENOMEM
                     : gp__hclog_parse(&lines->hclog, record, line, len, level, &batch->arena));
}

/* Add a piece of a line that is too long to be parsed. */
static void
add_piece(gp__lines *lines, gp__batch *batch, const char *piece, size_t len, int level)
{
    if (level > GP_DEBUG) {
        batch->skipped = true;
        return;
    }
    count_record(lines, batch, put_record(batch, GP_DEBUG, piece, len));
}

static void
empty_carry(gp__lines *lines)
{
    if (lines->carry.cap > KEPT) {
        gp__buf_release(&lines->carry);
    }
    lines->carry.len = 0;
}

static void
extend_carry(gp__lines *lines, const char *bytes, size_t len)
{
    if (gp__buf_append(&lines->carry, bytes, len) < 0) {
        /* The line can no longer be parsed: treat the rest as pieces. */
        lines->lost++;
        lines->continuing = true;
        empty_carry(lines);
    }
}

/* The end of the carried line has come: add it. */
static void
end_line(gp__lines *lines, gp__batch *batch, int level)
{
    if (!lines->continuing) {
        add_line(lines, batch, lines->carry.data, lines->carry.len, level);
    } else if (lines->carry.len > 0) {
        add_piece(lines, batch, lines->carry.data, lines->carry.len, level);
    }
    lines->continuing = false;
    empty_carry(lines);
}

void
gp__lines_feed(gp__lines *lines, gp__batch *batch, const char *bytes, size_t len, int level)
{
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t part = newline != NULL ? (size_t)(newline - bytes) : len;
        size_t taken = part + (newline != NULL ? 1 : 0);

        if (newline != NULL && lines->carry.len == 0 && !lines->continuing &&
            part <= lines->limit) {
            add_line(lines, batch, bytes, part, level); /* whole within the chunk: the usual case */
            bytes += taken;
            len -= taken;
            continue;
        }
        len -= taken;
        while (lines->carry.len + part > lines->limit) {
            size_t fits = lines->limit - lines->carry.len;

            extend_carry(lines, bytes, fits);
            if (lines->carry.len > 0) {
                add_piece(lines, batch, lines->carry.data, lines->carry.len, level);
            }
            lines->continuing = true;
            empty_carry(lines);
            bytes += fits;
            part -= fits;
        }
        extend_carry(lines, bytes, part);
        bytes += part;
        if (newline != NULL) {
            end_line(lines, batch, level);
            bytes++;
        }
    }
}

void
gp__lines_finish(gp__lines *lines, gp__batch *batch, int level)
{
    if (lines->carry.len > 0) {
        end_line(lines, batch, level);
    }
}
