/*
 * Layer: os. One thread per process that waits for every plugin's pipes and exit notifications.
 *
 * It starts with the first watch and ends with gp__reactor_stop(). Callbacks run on it with no lock
 * held, one at a time; they must not block. Every function may be called from any thread, the
 * callbacks included. The reactor's lock is a leaf: callers may hold locks of their own, as long as
 * gp__reactor_remove() is called without one that a callback takes.
 *
 * In a forked child there is no reactor: adding fails with GP_EFORKED, the rest does nothing.
 */
#ifndef GP_OS_REACTOR_H
#define GP_OS_REACTOR_H

#include <stdbool.h>

#include "gp/error.h"

typedef struct gp__watch gp__watch;
typedef void gp__watch_fn(void *ctx);

/* How often gp__reactor_every() calls back. */
enum { GP__REACTOR_TICK_MS = 20 };

/*
 * Call |ready| whenever |fd| (borrowed) can be read or its other end is closed. |*out| is set before
 * the first call.
 */
int gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err);

/* Call |tick| about every GP__REACTOR_TICK_MS, for what no descriptor tells. */
int gp__reactor_every(gp__watch **out, gp__watch_fn *tick, void *ctx, gp_error *err);

/* Stop or resume looking at the descriptor. A callback that runs already is not waited for. */
void gp__reactor_enable(gp__watch *watch, bool enabled);

/*
 * Forget the watch. After this returns its callback does not run and will not run any more; called
 * from the callback itself, it is the last time. The descriptor may then be closed. NULL is fine.
 */
void gp__reactor_remove(gp__watch *watch);

/* Whether this is the reactor's thread. */
bool gp__reactor_current(void);

/* End the thread and wait for it; watches stay, and the next one added starts it anew. */
void gp__reactor_stop(void);

#endif
