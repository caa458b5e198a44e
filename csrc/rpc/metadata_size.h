/*
 * Layer: rpc. How much metadata the two sides of a connection accept from each other.
 *
 * HTTP/2 has a setting for it, which gRPC does not show. If a server sends more than its client
 * accepts, the status of the call is lost, and the client sees RESOURCE_EXHAUSTED instead. So a
 * server has to know the limit. Clients of this library state it in their user agent; other clients
 * are recognised by their user agent.
 */
#ifndef GP_RPC_METADATA_SIZE_H
#define GP_RPC_METADATA_SIZE_H

#include <stddef.h>

#include "gp/message.h"

/*
 * Limits in bytes, as HTTP/2 counts them: names, values, and 32 for each entry. The library's
 * default has room for 64 KiB of details, which may be sent as three times as much: gRPC escapes
 * all but printable ASCII.
 */
enum {
    GP__METADATA_SIZE = 256 << 10,    /* the library's default */
    GP__METADATA_SIZE_CORE = 8 << 10, /* gRPC's C core by itself, and gRPC for Java */
    GP__METADATA_SIZE_GO = 16 << 20,
};

/*
 * The user agent of a client that accepts |size| bytes: |given|, which may be NULL, and then |name|
 * with gRPC's version, as with grpcio. Free it with gp__free(). NULL when memory is short.
 */
char *gp__user_agent(const char *given, const char *name, int size);

/* How many bytes a client with this user agent accepts; |otherwise| if that is not known. */
size_t gp__metadata_size_of(gp_bytes user_agent, size_t otherwise);

/*
 * Shorten the details of a status, which is sent with |trailing|, to what a client accepts that
 * accepts |size| bytes. If they are too long, returns a shorter copy that says so at its end, and
 * that the caller has to free by gp__free(*cut). Otherwise, and when memory is short, returns
 * |details| itself.
 */
gp_bytes gp__details_within(gp_bytes details, gp_metadata trailing, size_t size, char **cut);

#endif
