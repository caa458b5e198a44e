/*
 * Layer: rpc. Addresses of listeners as targets of gRPC's channels.
 */
#ifndef GP_RPC_TARGET_H
#define GP_RPC_TARGET_H

#include "gp/error.h"

/*
 * gRPC decodes a channel's target as a URI, splits it at commas, and cannot connect to a path that
 * is longer than a sockaddr_un has room for. A path that has a comma, or is too long, is reached
 * through a descriptor, which has to be kept for as long as the channel may connect.
 */
typedef struct gp__target {
    char *text; /* owned: "unix:...", "unix-abstract:..." or host:port */
    int fd;     /* owned: the socket's file, which |text| names; -1: none is needed */
} gp__target;

#define GP__TARGET_INIT {NULL, -1}

/*
 * |network| is "unix" or "tcp"; a unix |address| that begins with '@' is an abstract name.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS (a path needs a descriptor, and nothing is there) or GP_EINVAL
 * (gRPC cannot connect to such an address).
 */
int gp__target_init(gp__target *out, const char *network, const char *address, gp_error *err);

void gp__target_release(gp__target *target);

#endif
