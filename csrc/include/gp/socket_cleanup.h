/*
 * Layer: public. Sockets that are removed when a signal ends the process.
 *
 * The signals are those that are sent on purpose: SIGTERM, SIGHUP and SIGQUIT, each unless the
 * program handles or ignores it. Our handler, whichever thread it runs on, removes the sockets by
 * async-signal-safe calls, and then lets the signal end the process. A forked child inherits the
 * handlers and removes nothing. Threads: any.
 */
#ifndef GP_SOCKET_CLEANUP_H
#define GP_SOCKET_CLEANUP_H

#include "gp/error.h"

/*
 * Have signals remove |path|, and then |directory| if it is empty (NULL: no directory). The first
 * call installs the handlers.
 *
 * Returns: a number for gp_socket_cleanup_drop(), GP_EINVAL (the path is too long) or GP_ENOMEM
 * (there are too many).
 */
int gp_socket_cleanup_add(const char *path, const char *directory, gp_error *err);

/*
 * Undo gp_socket_cleanup_add(). Idempotent until the next add. Dropping the last socket gives the
 * signals their default actions back.
 */
void gp_socket_cleanup_drop(int number);

#endif
