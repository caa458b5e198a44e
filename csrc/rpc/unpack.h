/*
 * Layer: rpc. Compressed messages that arrive.
 *
 * gRPC's core would unpack them itself, whole, whatever comes out, and compare with the limit
 * afterwards: a megabyte becomes a gigabyte. So it is told not to, and hands them over as they are.
 */
#ifndef GP_RPC_UNPACK_H
#define GP_RPC_UNPACK_H

#include <grpc/grpc.h>
#include <stddef.h>

enum { GP__UNPACK_WHY = 128 };

/*
 * Unpack |*buffer| (which may be NULL) if it is compressed, unless more than |most| bytes come out;
 * with a |most| of 0 it stays as it is.
 *
 * Returns: 0, or the status to end the call with, with the details in |why|; |*buffer| is NULL
 * then.
 */
grpc_status_code gp__unpack(grpc_byte_buffer **buffer, size_t most, char why[GP__UNPACK_WHY]);

#endif
