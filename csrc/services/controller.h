/*
 * Layer: services. Asking a plugin to shut itself down.
 */
#ifndef GP_SERVICES_CONTROLLER_H
#define GP_SERVICES_CONTROLLER_H

#include "gp/channel.h"

/*
 * Call Shutdown. A connection that drops instead of answering is an answer as well.
 * Returns: 0, or GP_ERPC, GP_ECLOSED, GP_EFORKED, GP_EUSER.
 */
int gp__controller_shutdown(gp_channel *channel, int64_t timeout_ms, const gp_interrupt *interrupt,
                            gp_error *err);

#endif
