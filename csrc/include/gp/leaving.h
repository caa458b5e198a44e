/*
 * Layer: public. What a signal that ends the process removes first: the sockets of plugins.
 *
 * SIGTERM, SIGHUP and SIGQUIT, each unless somebody handles or ignores it already. The handlers do what
 * is allowed in handlers and let the signal have its way, whatever thread it hits. A forked child
 * inherits them and removes nothing. Threads: any.
 */
#ifndef GP_LEAVING_H
#define GP_LEAVING_H

#include "gp/error.h"

/*
 * Have |path| removed. Handlers are installed with the first one.
 * Returns: a place for gp_leaving_drop(), GP_EINVAL (too long a path) or GP_ENOMEM (too many).
 */
int gp_leaving_add(const char *path, gp_error *err);

/* No longer. Idempotent until the next add. With the last one the signals get their defaults back. */
void gp_leaving_drop(int place);

#endif
