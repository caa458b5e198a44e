/*
 * Layer: rpc. Between gRPC's types and ours.
 */
#ifndef GP_RPC_CONVERT_H
#define GP_RPC_CONVERT_H

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <stdint.h>

#include "gp/channel.h"
#include "gp/error.h"
#include "gp/message.h"

/* A deadline on CLOCK_MONOTONIC in nanoseconds (GP__FOREVER: never) as gRPC wants it. */
gpr_timespec gp__timespec_from_deadline(int64_t deadline);

grpc_slice gp__slice_from_bytes(gp_bytes bytes);
gp_bytes gp__bytes_from_slice(const grpc_slice *slice);

/* A byte buffer that holds a copy of |bytes|. */
grpc_byte_buffer *gp__byte_buffer_from_bytes(gp_bytes bytes);

/*
 * Copy |metadata| and |extra| more zeroed places into a new array. *out is NULL if there is
 * nothing.
 * Returns: 0 or GP_ENOMEM. Release with gp__metadata_free().
 */
int gp__metadata_to_grpc(grpc_metadata **out, gp_metadata metadata, size_t extra);
/* What tells gRPC, among the initial metadata, how to compress a call's messages. Never sent. */
grpc_metadata gp__compression_metadata(int algorithm);

void gp__metadata_free(grpc_metadata *items, size_t count);

/*
 * A view of what gRPC received, its places allocated once and kept in |*items|.
 * Empty when memory is short.
 */
gp_metadata gp__metadata_view(gp_metadatum **items, const grpc_metadata_array *received);

/* gRPC hands received messages over as byte buffers; to everyone above they are gp_message. */
static inline gp_message *
gp__message_from_buffer(grpc_byte_buffer *buffer)
{
    return (gp_message *)buffer;
}

static inline grpc_byte_buffer *
gp__buffer_of_message(const gp_message *message)
{
    return (grpc_byte_buffer *)(uintptr_t)message;
}

#endif
