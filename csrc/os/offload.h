/*
 * Layer: os. System calls that may block without a limit (looking up a host's name, a file system
 * that does not answer), with a deadline and an interrupt. They run on a thread of their own; if
 * the caller stops waiting, that thread goes on by itself. Threads: any.
 */
#ifndef GP_OS_OFFLOAD_H
#define GP_OS_OFFLOAD_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

/*
 * Call |run| with |ctx| on another thread and wait until it returns, |deadline| at most.
 *
 * Returns: 0 when |run| has returned, and |ctx| is the caller's; or GP_ETIMEOUT, GP_EUSER,
 * GP_ENOMEM or GP_EOS (no thread can be started, or too many still run). In all these cases
 * |release| is called with |ctx|, once |run| does not use it any more, and the caller must not
 * touch it.
 */
int gp__offload(void (*run)(void *ctx), void (*release)(void *ctx), void *ctx, int64_t deadline,
                const gp_interrupt *interrupt, gp_error *err);

#endif
