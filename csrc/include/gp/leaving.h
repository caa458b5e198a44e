/*
 * Layer: public. What a plugin's process does about signals that end it.
 *
 * Those that are sent on purpose have the sockets of plugins removed first: SIGTERM, SIGHUP and
 * SIGQUIT, each unless it is handled or ignored already. The handlers do what is allowed in
 * handlers and let the signal have its way, whatever thread it hits. A forked child inherits them
 * and removes nothing. Threads: any.
 */
#ifndef GP_LEAVING_H
#define GP_LEAVING_H

#include "gp/error.h"

/*
 * Have |path| removed, and then the |directory|, if it is empty; NULL: none. Handlers are installed
 * with the first one. Returns: a place for gp_leaving_drop(), GP_EINVAL (too long a path) or
 * GP_ENOMEM (too many).
 */
int gp_leaving_add(const char *path, const char *directory, gp_error *err);

/*
 * No longer. Idempotent until the next add. With the last one the signals get their defaults back.
 */
void gp_leaving_drop(int place);

/*
 * Have signals that report a fault (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL) write a line "panic:
 * ..." to the original standard error of this process before they take their course: that is how
 * hosts tell a crash from other output. What is written after it counts as the crash's trace:
 * handlers of others that write one run after ours, unless they are installed after the last call.
 * Not in forked children. Idempotent.
 */
void gp_leaving_announce(void);

#endif
