#include "rpc/convert.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "gp/grpc_status.h"
#include "rpc/grpc_symbols.h"

/* gp/grpc_status.h has the same codes as gRPC's own header, which rpc/ uses. */
#define ASSERT_STATUS(name) \
    _Static_assert((int)GP_GRPC_##name == (int)GRPC_STATUS_##name, "status code of " #name)

ASSERT_STATUS(OK);
ASSERT_STATUS(CANCELLED);
ASSERT_STATUS(UNKNOWN);
ASSERT_STATUS(INVALID_ARGUMENT);
ASSERT_STATUS(DEADLINE_EXCEEDED);
ASSERT_STATUS(NOT_FOUND);
ASSERT_STATUS(ALREADY_EXISTS);
ASSERT_STATUS(PERMISSION_DENIED);
ASSERT_STATUS(RESOURCE_EXHAUSTED);
ASSERT_STATUS(FAILED_PRECONDITION);
ASSERT_STATUS(ABORTED);
ASSERT_STATUS(OUT_OF_RANGE);
ASSERT_STATUS(UNIMPLEMENTED);
ASSERT_STATUS(INTERNAL);
ASSERT_STATUS(UNAVAILABLE);
ASSERT_STATUS(DATA_LOSS);
ASSERT_STATUS(UNAUTHENTICATED);

enum { NS_PER_S = 1000000000 };

/* How far gRPC's monotonic clock is ahead of CLOCK_MONOTONIC: whole seconds, in nanoseconds. */
static _Atomic int64_t clock_lead;

static int64_t
nanoseconds(gpr_timespec spec)
{
    return spec.tv_sec * NS_PER_S + spec.tv_nsec;
}

void
gp__grpc_measure_clock(void)
{
    int64_t before;
    int64_t lead;

    /* Anything may happen between the two readings: measure again if much time has passed. */
    do {
        before = gp__now();
        lead = nanoseconds(gpr_now(GPR_CLOCK_MONOTONIC)) - before;
    } while (gp__now() - before > NS_PER_S / 4);
    atomic_store_explicit(&clock_lead, (lead + NS_PER_S / 2) / NS_PER_S * NS_PER_S,
                          memory_order_relaxed);
}

gpr_timespec
gp__timespec_from_deadline(int64_t deadline)
{
    gpr_timespec spec;

    if (deadline == GP__FOREVER) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    deadline += atomic_load_explicit(&clock_lead, memory_order_relaxed);
    spec.tv_sec = deadline / NS_PER_S;
    spec.tv_nsec = (int32_t)(deadline % NS_PER_S);
    spec.clock_type = GPR_CLOCK_MONOTONIC;
    return spec;
}

int64_t
gp__deadline_from_timespec(gpr_timespec spec)
{
    spec = gpr_convert_clock_type(spec, GPR_CLOCK_MONOTONIC);
    if (gpr_time_cmp(spec, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0) {
        return GP__FOREVER;
    }
    return nanoseconds(spec) - atomic_load_explicit(&clock_lead, memory_order_relaxed);
}

grpc_slice
gp__slice_from_bytes(gp_bytes bytes)
{
    return grpc_slice_from_copied_buffer(bytes.data, bytes.len);
}

gp_bytes
gp__bytes_from_slice(const grpc_slice *slice)
{
    return (gp_bytes){GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}

grpc_byte_buffer *
gp__byte_buffer_from_bytes(gp_bytes bytes)
{
    grpc_slice slice = gp__slice_from_bytes(bytes);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}

int
gp__metadata_to_grpc(grpc_metadata **out, gp_metadata metadata, size_t extra)
{
    *out = NULL;
    if (metadata.count + extra == 0) {
        return 0;
    }
    *out = gp__calloc(metadata.count + extra, sizeof(**out));
    if (*out == NULL) {
        return GP_ENOMEM;
    }
    for (size_t i = 0; i < metadata.count; i++) {
        (*out)[i].key = gp__slice_from_bytes(metadata.items[i].key);
        (*out)[i].value = gp__slice_from_bytes(metadata.items[i].value);
    }
    return 0;
}

void
gp__metadata_free(grpc_metadata *items, size_t count)
{
    for (size_t i = 0; items != NULL && i < count; i++) {
        grpc_slice_unref(items[i].key);
        grpc_slice_unref(items[i].value);
    }
    gp__free(items);
}

gp_metadata
gp__metadata_view(gp_metadatum **items, const grpc_metadata_array *received)
{
    gp_metadata view = {NULL, 0};

    if (received->count == 0) {
        return view;
    }
    if (*items == NULL) {
        *items = gp__calloc(received->count, sizeof(**items));
        for (size_t i = 0; *items != NULL && i < received->count; i++) {
            (*items)[i].key = gp__bytes_from_slice(&received->metadata[i].key);
            (*items)[i].value = gp__bytes_from_slice(&received->metadata[i].value);
        }
    }
    if (*items != NULL) {
        view = (gp_metadata){*items, received->count};
    }
    return view;
}

grpc_metadata
gp__compression_metadata(int algorithm)
{
    const char *name = algorithm == GP_COMPRESS_GZIP      ? "gzip"
                       : algorithm == GP_COMPRESS_DEFLATE ? "deflate"
                                                          : "identity";

    return (grpc_metadata){.key = grpc_slice_from_static_string("grpc-internal-encoding-request"),
                           .value = grpc_slice_from_static_string(name)};
}

/* ---- gp/message.h ---- */

size_t
gp_message_size(const gp_message *message)
{
    grpc_byte_buffer_reader reader;
    grpc_byte_buffer *buffer = gp__buffer_of_message(message);
    size_t size;

    if (!grpc_byte_buffer_reader_init(&reader, buffer)) {
        return 0;
    }
    /* The reader's output is decompressed if the message was compressed. */
    size = grpc_byte_buffer_length(reader.buffer_out);
    grpc_byte_buffer_reader_destroy(&reader);
    return size;
}

void
gp_message_copy(const gp_message *message, void *out)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    unsigned char *to = out;

    if (!grpc_byte_buffer_reader_init(&reader, gp__buffer_of_message(message))) {
        return;
    }
    while (grpc_byte_buffer_reader_peek(&reader, &slice)) {
        memcpy(to, GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
        to += GRPC_SLICE_LENGTH(*slice);
    }
    grpc_byte_buffer_reader_destroy(&reader);
}

void
gp_message_free(gp_message *message)
{
    if (message != NULL) {
        grpc_byte_buffer_destroy(gp__buffer_of_message(message));
    }
}

/* The two rules are those of gRPC's protocol (Header-Name, ASCII-Value). */

int
gp_metadata_key_valid(gp_bytes key)
{
    const unsigned char *bytes = key.data;

    for (size_t i = 0; i < key.len; i++) {
        unsigned char c = bytes[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
              c == '.')) {
            return 0;
        }
    }
    return key.len > 0;
}

int
gp_metadata_value_valid(gp_bytes value)
{
    const unsigned char *bytes = value.data;

    for (size_t i = 0; i < value.len; i++) {
        if (bytes[i] < ' ' || bytes[i] > '~') {
            return 0;
        }
    }
    return 1;
}
