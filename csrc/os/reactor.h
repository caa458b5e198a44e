/*
 * Layer: os. One thread per process that waits for every plugin's pipes, exit notifications and
 * multiplexed connections.
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
#include <stdint.h>

#include "gp/error.h"

typedef struct gp__watch gp__watch;
typedef void gp__watch_fn(void *ctx);

/*
 * The events that a watch looks for. A descriptor whose other end is closed is ready for all of
 * them; a watch for GP__WATCH_HANGUP alone is not called for data.
 */
enum { GP__WATCH_READ = 1, GP__WATCH_WRITE = 2, GP__WATCH_HANGUP = 4 };

/*
 * Call |ready| whenever |fd| (borrowed) can be read or its other end is closed. |*out| is set
 * before the first call.
 */
int gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err);

/* A timer: call |tick| about every |period_ms|. */
int gp__reactor_every(gp__watch **out, int64_t period_ms, gp__watch_fn *tick, void *ctx,
                      gp_error *err);

/*
 * Call back when the descriptor is ready for any of |events| from now on; 0 stops looking at it. A
 * callback that runs already is not waited for.
 */
void gp__reactor_want(gp__watch *watch, unsigned events);

/*
 * As gp__reactor_want(), for a watch that only reads or ticks: with GP__WATCH_READ, or with 0. A
 * timer that is enabled again ticks after a whole period.
 */
void gp__reactor_enable(gp__watch *watch, bool enabled);

/*
 * Free the watch. After this returns, its callback does not run and will not run any more; if the
 * callback itself calls this, the present call is the last one. The descriptor may then be closed.
 * NULL is fine.
 */
void gp__reactor_remove(gp__watch *watch);

/*
 * Call |run| once on the reactor's thread, and wait until it returns: for what the kernel binds to
 * a thread and must not end with the caller's. While it blocks, no plugin's output is read.
 *
 * Returns: 0, GP_EFORKED, GP_ENOMEM or GP_EOS; then it has not run.
 */
int gp__reactor_call(void (*run)(void *ctx), void *ctx, gp_error *err);

/* Whether this is the reactor's thread. */
bool gp__reactor_current(void);

/* End the thread and wait for it. Watches stay; adding the next one starts the thread anew. */
void gp__reactor_stop(void);

#endif
