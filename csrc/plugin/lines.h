/*
 * Layer: plugin. Turns output in chunks of any size into log records: one for each line, or several
 * for a line that is longer than the limit. The result does not depend on how the output is cut
 * into chunks. One thread at a time; no I/O.
 */
#ifndef GP_PLUGIN_LINES_H
#define GP_PLUGIN_LINES_H

#include "base/buf.h"
#include "plugin/batch.h"
#include "wire/hclog.h"

typedef struct gp__lines {
    size_t limit;    /* a longer line is passed on in pieces of this size, at DEBUG */
    gp__buf carry;   /* owned; the beginning of a line whose end has not come yet */
    bool continuing; /* pieces of this line have been passed on already */
    gp__hclog hclog; /* what later lines need to know of earlier ones */
    size_t lost;     /* lines that were dropped, as memory was short, and not reported yet */
} gp__lines;

/* |limit| 0 means 64 KiB. */
void gp__lines_init(gp__lines *lines, size_t limit);
void gp__lines_release(gp__lines *lines);

/*
 * Take the next chunk. Records of at least |level| are added to |batch|; with a level above
 * GP_ERROR nothing is parsed. When memory is short, lines are dropped, and their number is reported
 * later.
 */
void gp__lines_feed(gp__lines *lines, gp__batch *batch, const char *bytes, size_t len, int level);

/* Add a record at GP_WARN that is not part of the output. */
void gp__lines_add(gp__lines *lines, gp__batch *batch, const char *message, int level);

/* The output has ended: add the last line even if it has no newline. */
void gp__lines_finish(gp__lines *lines, gp__batch *batch, int level);

#endif
