/*
 * Layer: services. The client of the health service.
 */
#ifndef GP_SERVICES_HEALTH_H
#define GP_SERVICES_HEALTH_H

#include "gp/channel.h"

/* Check |service|. Returns 0 if it is SERVING, GP_ERPC if it is not, or as gp__request(). */
int gp__health_check(gp_channel *channel, const char *service, int64_t timeout_ms,
                     const gp_interrupt *interrupt, gp_error *err);

#endif
