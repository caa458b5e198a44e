/*
 * Layer: os. The addresses that plugins listen on, seen from the host; for the plugin's own side see
 * gp/listen.h. |network| is "unix" or "tcp"; a unix path that begins with '@' is an abstract name.
 */
#ifndef GP_OS_SOCKET_H
#define GP_OS_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

/*
 * Connect and hang up: does anybody listen there?
 *
 * Returns: 0, GP_EREATTACH with the reason, or GP_EUSER. Blocks until |deadline| at most.
 */
int gp__socket_probe(const char *network, const char *address, int64_t deadline,
                     const gp_interrupt *interrupt, gp_error *err);

/* Remove what a dead process has left at |path|, but only a socket, and only our own user's. */
void gp__socket_remove_stale(const char *path);

#endif
