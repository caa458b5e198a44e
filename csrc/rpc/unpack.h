/*
 * Layer: rpc. Unpacking compressed messages that arrive.
 *
 * gRPC's core would unpack a message as a whole and compare its size with the limit afterwards: a
 * megabyte may become a gigabyte. So channels and servers make gRPC leave messages compressed, and
 * gp__unpack() unpacks them.
 */
#ifndef GP_RPC_UNPACK_H
#define GP_RPC_UNPACK_H

#include <stddef.h>

#include "rpc/grpc_symbols.h"

/* Room for the details of a failure. */
enum { GP__UNPACK_WHY = 128 };

/*
 * Unpack |*buffer|, which may be NULL, if it is compressed and |most| is not 0. More than |most|
 * bytes are an error.
 *
 * Returns: GRPC_STATUS_OK; or the status that the call has to end with, with details in |why| and
 * NULL in |*buffer|.
 */
grpc_status_code gp__unpack(grpc_byte_buffer **buffer, size_t most, char why[GP__UNPACK_WHY]);

#endif
