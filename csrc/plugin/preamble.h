/*
 * Layer: plugin. Lines that a plugin prints to its stdout before its handshake, and that its host
 * is configured to skip.
 */
#ifndef GP_PLUGIN_PREAMBLE_H
#define GP_PLUGIN_PREAMBLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/text.h"
#include "gp/error.h"

typedef struct gp__preamble {
    size_t most;     /* how many lines may be skipped */
    size_t lines;    /* how many have been skipped */
    bool discarding; /* the rest of a line that is too long is being skipped */
    gp__buf quoted;  /* owned; the first few skipped lines, each in quotes */
} gp__preamble;

void gp__preamble_release(gp__preamble *preamble);

/*
 * Remove lines that are not a handshake from the beginning of |output|, as many as may be skipped.
 * Text in front of a handshake in the same line is removed, too, and counts as a line.
 *
 * Returns: 1 (|output| begins with a whole line that should be a handshake), 0 (more output is
 * needed), GP_EHANDSHAKE (there were too many lines, or the line is too long) or GP_ENOMEM.
 */
int gp__preamble_skip(gp__preamble *preamble, gp__buf *output, gp_error *err);

/*
 * The first line of |output|, without its newline: everything if there is no newline. Borrowed from
 * |output|.
 */
gp__text gp__preamble_first_line(const gp__buf *output);

/*
 * Describe the skipped lines: '2 lines on its stdout: "one", "two"'. Owned by the caller; NULL if
 * nothing was skipped, or memory is short.
 */
char *gp__preamble_describe(const gp__preamble *preamble);

#endif
