/*
 * Layer: services. The client of the controller: asks a plugin to shut down.
 */
#ifndef GP_SERVICES_CONTROLLER_H
#define GP_SERVICES_CONTROLLER_H

#include "gp/channel.h"

/*
 * Call Shutdown. A connection that is closed instead of an answer counts as success.
 *
 * Returns: 0, or GP_ERPC, GP_ECLOSED, GP_EFORKED, GP_EUSER.
 */
int gp__controller_shutdown(gp_channel *channel, int64_t timeout_ms, const gp_interrupt *interrupt,
                            gp_error *err);

#endif
