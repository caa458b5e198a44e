/*
 * Layer: plugin. Output in chunks of any size becomes log records: a line each, or pieces of a line
 * that is longer than the limit. How the output is cut into chunks makes no difference. One thread
 * at a time; no I/O.
 */
#ifndef GP_PLUGIN_LINES_H
#define GP_PLUGIN_LINES_H

#include "base/buf.h"
#include "plugin/batch.h"
#include "wire/hclog.h"

typedef struct gp__lines {
    size_t limit;    /* a longer line is passed on in pieces of this size, at DEBUG */
    gp__buf carry;   /* the beginning of a line whose end has not come yet */
    bool continuing; /* pieces of this line have been passed on already */
    gp__hclog hclog; /* what earlier lines mean for later ones */
    size_t lost;     /* lines that there was no memory for, not reported yet */
} gp__lines;

/* |limit| 0 means 64 KiB. */
void gp__lines_init(gp__lines *lines, size_t limit);
void gp__lines_release(gp__lines *lines);

/*
 * Take the next chunk. Records of at least |level| are added to |batch|; with a level beyond
 * GP_ERROR nothing is parsed. Out of memory, lines are left out and their number is reported later.
 */
void gp__lines_feed(gp__lines *lines, gp__batch *batch, const char *bytes, size_t len, int level);

/* A record at GP_WARN that is no part of the output. */
void gp__lines_add(gp__lines *lines, gp__batch *batch, const char *message, int level);

/* The output has ended: an unfinished line is as good as a finished one. */
void gp__lines_finish(gp__lines *lines, gp__batch *batch, int level);

#endif
