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
 * What a watch looks for. A hung-up descriptor is all of it; GP__WATCH_HANGUP alone passes data
 * over.
 */
enum { GP__WATCH_READ = 1, GP__WATCH_WRITE = 2, GP__WATCH_HANGUP = 4 };

/*
 * Call |ready| whenever |fd| (borrowed) can be read or its other end is closed. |*out| is set
 * before the first call.
 */
int gp__reactor_add(gp__watch **out, int fd, gp__watch_fn *ready, void *ctx, gp_error *err);

/* Call |tick| about every |period_ms|, for what no descriptor tells. */
int gp__reactor_every(gp__watch **out, int64_t period_ms, gp__watch_fn *tick, void *ctx,
                      gp_error *err);

/*
 * Call back when the descriptor is ready for any of |events| from now on; 0 stops looking at it. A
 * callback that runs already is not waited for.
 */
void gp__reactor_want(gp__watch *watch, unsigned events);

/* The same for those that only read: want it, or nothing. */
void gp__reactor_enable(gp__watch *watch, bool enabled);

/*
 * Forget the watch. After this returns its callback does not run and will not run any more; called
 * from the callback itself, it is the last time. The descriptor may then be closed. NULL is fine.
 */
void gp__reactor_remove(gp__watch *watch);

/*
 * Run |run| once on the reactor's thread, and wait for it: for what belongs to a thread and has to
 * outlive the caller's. It may block for as long as all plugins' output may wait.
 *
 * Returns: 0, GP_EFORKED, GP_ENOMEM or GP_EOS; then it has not run.
 */
int gp__reactor_call(void (*run)(void *ctx), void *ctx, gp_error *err);

/* Whether this is the reactor's thread. */
bool gp__reactor_current(void);

/* End the thread and wait for it; watches stay, and the next one added starts it anew. */
void gp__reactor_stop(void);

#endif
