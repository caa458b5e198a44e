/*
 * Layer: rpc. How much metadata the two sides of a connection accept of each other.
 *
 * HTTP/2 has a setting for it, which gRPC keeps to itself. A server that sends more than its client
 * accepts loses the status of the call, and with it the code: the client sees RESOURCE_EXHAUSTED.
 * So a server has to know how much that is. Clients of ours say so in their user agent; of others
 * it is known by what they are.
 */
#ifndef GP_RPC_METADATA_SIZE_H
#define GP_RPC_METADATA_SIZE_H

#include <stddef.h>

#include "gp/message.h"

/*
 * In bytes, as HTTP/2 counts them: names, values and 32 for each entry. Ours has room for 64 KiB of
 * details that are sent as three times as much, since gRPC escapes all but printable ASCII.
 */
enum {
    GP__METADATA_SIZE = 256 << 10,    /* what we accept unless the user says otherwise */
    GP__METADATA_SIZE_CORE = 8 << 10, /* gRPC's C core by itself, and gRPC for Java */
    GP__METADATA_SIZE_GO = 16 << 20,
};

/*
 * The user agent of a client that accepts |size| bytes: |given| (NULL: nothing) and then |name|, as
 * grpcio has it, with gRPC's version. NULL when memory is short; free with gp__free().
 */
char *gp__user_agent(const char *given, const char *name, int size);

/* How much a client with this user agent accepts; |otherwise| of one that is not known. */
size_t gp__metadata_size_of(gp_bytes user_agent, size_t otherwise);

/*
 * The details of a status for a client that accepts |size| bytes, together with |trailing|. What is
 * too long is cut, and says so at its end: a copy, in |*cut|, for gp__free(). Otherwise, and when
 * memory is short, |details| itself.
 */
gp_bytes gp__details_within(gp_bytes details, gp_metadata trailing, size_t size, char **cut);

#endif
