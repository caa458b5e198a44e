/*
 * Layer: wire. Parses a line of a plugin's stderr into a log record. gp_hclog_format() writes them.
 *
 *                        "panic: " or "fatal error: "
 *      PLAIN --------------------------------------------------> PANIC: untagged lines are ERROR
 *       | ^
 *       | '-- any other untagged line --.  "During handling ...", "The above ..."
 *       |                               |   .------------------------------------> CHAINED
 *       '- "Traceback (most ..." -> TRACEBACK -- column 0 --> RAISED                  |
 *                                       ^                                             |
 *                                       '------------- "Traceback (most ..." ---------'
 *
 * Untagged lines are ERROR in every state but PLAIN. hclog entries and tagged lines change nothing.
 */
#ifndef GP_WIRE_HCLOG_H
#define GP_WIRE_HCLOG_H

#include <stddef.h>

#include "base/arena.h"
#include "gp/log.h"

typedef enum gp__hclog_state {
    GP__HCLOG_PLAIN,
    GP__HCLOG_PANIC,
    GP__HCLOG_TRACEBACK,
    GP__HCLOG_RAISED,
    GP__HCLOG_CHAINED,
} gp__hclog_state;

/* The parser's state between the lines of one plugin's stderr. Initially zero. */
typedef struct gp__hclog {
    gp__hclog_state state;
} gp__hclog;

/*
 * Parse one line without its line end. The record's strings are copied to |arena|.
 *
 * Returns: 1 with |out| set, 0 if its level is below |threshold|, or GP_ENOMEM. Any bytes are a
 * valid line.
 */
int gp__hclog_parse(gp__hclog *hclog, gp_log_record *out, const char *line, size_t len,
                    int threshold, gp__arena *arena);

#endif
