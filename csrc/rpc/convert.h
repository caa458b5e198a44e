/* Layer: rpc. Converts between gRPC's types and the library's. */
#ifndef GP_RPC_CONVERT_H
#define GP_RPC_CONVERT_H

#include <stdint.h>

#include "gp/channel.h"
#include "gp/error.h"
#include "gp/message.h"
#include "rpc/grpc_symbols.h"

/*
 * Measure gRPC's monotonic clock, which in newer versions is 5 s ahead of CLOCK_MONOTONIC. To be
 * called when gRPC is loaded, before deadlines are converted.
 */
void gp__grpc_measure_clock(void);

/* Deadlines are on CLOCK_MONOTONIC, in nanoseconds; GP__FOREVER: never. */
gpr_timespec gp__timespec_from_deadline(int64_t deadline);
int64_t gp__deadline_from_timespec(gpr_timespec spec);

grpc_slice gp__slice_from_bytes(gp_bytes bytes);
gp_bytes gp__bytes_from_slice(const grpc_slice *slice);

/* A byte buffer that holds a copy of |bytes|. */
grpc_byte_buffer *gp__byte_buffer_from_bytes(gp_bytes bytes);

/*
 * Copy |metadata| into a new array that has |extra| more zeroed items at its end. |*out| is NULL if
 * there are none. Release it with gp__metadata_free(). Returns: 0 or GP_ENOMEM.
 */
int gp__metadata_to_grpc(grpc_metadata **out, gp_metadata metadata, size_t extra);
void gp__metadata_free(grpc_metadata *items, size_t count);

/*
 * The item of the initial metadata that tells gRPC how to compress the call's messages. gRPC does
 * not send it.
 */
grpc_metadata gp__compression_metadata(int algorithm);

/*
 * A view of the metadata that gRPC received. Its items are allocated by the first call and kept in
 * |*items|. Empty when memory is short.
 */
gp_metadata gp__metadata_view(gp_metadatum **items, const grpc_metadata_array *received);

/* A received message is one of gRPC's byte buffers; the layers above see a gp_message. */
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
