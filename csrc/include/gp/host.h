/*
 * Layer: public. How a plugin notices that its host has ended.
 */
#ifndef GP_HOST_H
#define GP_HOST_H

#include <stdint.h>

#include "gp/error.h"

/*
 * Have |gone| called once, on a thread of ours that it must not block, when the host has ended.
 * That is when the process that launched this one has ended; or, if the host is behind a wrapper,
 * when this process's stdout and stderr are not read any more and an ancestor has ended. If this
 * process still runs |patience_ms| after that, it is ended with status 1.
 *
 * Call it before descriptors 1 and 2 are redirected. A host of pygo-plugin has the kernel kill its
 * plugins when it ends; this function cancels that, so that the plugin can end by itself. Once per
 * process; later calls do nothing.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_host_watch(void (*gone)(void *ctx), void *ctx, int64_t patience_ms, gp_error *err);

#endif
