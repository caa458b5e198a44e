/*
 * Layer: public. A plugin's host, as the plugin sees it: there, or gone without a word.
 */
#ifndef GP_HOST_H
#define GP_HOST_H

#include <stdint.h>

#include "gp/error.h"

/*
 * Have |gone| called once, on a thread of ours that it must not block, when the host is no more:
 * when the process that launched this one has ended, or when nobody reads this one's stdout and
 * stderr any more and some process above it has ended (the host, behind a wrapper). If this process
 * is still there |patience_ms| after that, it is ended with status 1.
 *
 * Call it before the descriptors 1 and 2 are redirected. It takes the place of the order to die
 * with the host that pygo-plugin's hosts give, so that the plugin can leave in its own way. Once
 * per process; later calls do nothing.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_host_watch(void (*gone)(void *ctx), void *ctx, int64_t patience_ms, gp_error *err);

#endif
