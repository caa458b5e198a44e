/*
 * Layer: wire. The host's side of version negotiation; the plugin's is in gp/handshake.h.
 */
#ifndef GP_WIRE_NEGOTIATE_H
#define GP_WIRE_NEGOTIATE_H

#include <stddef.h>

#include "gp/error.h"

/*
 * Check that the host speaks the version that a plugin answered with.
 *
 * Returns: 0, or GP_EVERSION with both sides' versions in the message and the plugin's in
 * err->number.
 */
int gp__version_accept(int version, const int *ours, size_t count, gp_error *err);

#endif
