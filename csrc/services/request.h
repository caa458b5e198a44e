/* Layer: services. A unary call to one of the services that this library knows. */
#ifndef GP_SERVICES_REQUEST_H
#define GP_SERVICES_REQUEST_H

#include "gp/call.h"
#include "gp/error.h"

/*
 * Call |path| with |request|, and wait for the reply.
 *
 * Returns: 0, with the reply's bytes in |reply| (may be NULL; the caller frees them with
 * gp__free()), or GP_ERPC (the gRPC status code is in err->number), GP_ECLOSED, GP_EFORKED,
 * GP_EUSER, GP_ENOMEM.
 */
int gp__request(gp_channel *channel, const char *path, gp_bytes request, int64_t timeout_ms,
                const gp_interrupt *interrupt, unsigned char **reply, size_t *reply_len,
                gp_error *err);

#endif
