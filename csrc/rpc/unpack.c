#include "rpc/unpack.h"

#include <stdbool.h>
#include <stdio.h>
#include <zlib.h>

#include "base/alloc.h"
#include "rpc/grpc_symbols.h"

/* The unpacked message so far. */
typedef struct output {
    grpc_slice *slices; /* owned, and a reference to each */
    size_t count;
    size_t room;
    size_t total; /* bytes, without the unused end of the last slice */
} output;

enum { FIRST_PIECE = 16 << 10, LARGEST_PIECE = 1 << 20 };

static void
release_output(output *out)
{
    for (size_t i = 0; i < out->count; i++) {
        grpc_slice_unref(out->slices[i]);
    }
    gp__free(out->slices);
}

/*
 * Add a slice for |stream| to write to, twice as long as the last one, up to LARGEST_PIECE. Returns
 * false when memory is short.
 */
static bool
add_piece(output *out, z_stream *stream)
{
    size_t last = out->count > 0 ? GRPC_SLICE_LENGTH(out->slices[out->count - 1]) : 0;
    size_t size = last == 0 ? FIRST_PIECE : last < LARGEST_PIECE ? 2 * last : LARGEST_PIECE;

    if (out->count == out->room) {
        size_t room = out->room > 0 ? 2 * out->room : 16;
        grpc_slice *more = gp__realloc(out->slices, room * sizeof(*more));

        if (more == NULL) {
            return false;
        }
        out->slices = more;
        out->room = room;
    }
    out->slices[out->count] = grpc_slice_malloc(size);
    stream->next_out = GRPC_SLICE_START_PTR(out->slices[out->count]);
    stream->avail_out = (uInt)size;
    out->count++;
    return true;
}

/*
 * Unpack the input that |stream| has. Returns: Z_OK if it needs more input; Z_STREAM_END;
 * Z_BUF_ERROR if more than |most| bytes have come out; or another of zlib's errors.
 */
static int
unpack_piece(output *out, z_stream *stream, size_t most)
{
    int rc = Z_OK;

    while (rc == Z_OK && (stream->avail_in > 0 || stream->avail_out == 0)) {
        size_t before;

        if (stream->avail_out == 0 && !add_piece(out, stream)) {
            return Z_MEM_ERROR;
        }
        before = stream->avail_out;
        rc = inflate(stream, Z_NO_FLUSH);
        out->total += before - stream->avail_out;
        if (out->total > most) {
            return Z_BUF_ERROR;
        }
        if (rc == Z_BUF_ERROR) {
            return Z_OK; /* all of the input is used up */
        }
    }
    return rc;
}

/* Whether |reader| has any more bytes. */
static bool
has_more(grpc_byte_buffer_reader *reader)
{
    grpc_slice *slice;

    while (grpc_byte_buffer_reader_peek(reader, &slice)) {
        if (GRPC_SLICE_LENGTH(*slice) > 0) {
            return true;
        }
    }
    return false;
}

/* Unpack |buffer|. Returns: Z_STREAM_END, or an error as unpack_piece(). */
static int
unpack_buffer(output *out, grpc_byte_buffer *buffer, bool gzip, size_t most)
{
    enum { GZIP = 16 };
    z_stream stream = {.zalloc = NULL};
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    int rc = inflateInit2(&stream, MAX_WBITS + (gzip ? GZIP : 0));

    if (rc != Z_OK) {
        return rc;
    }
    grpc_byte_buffer_reader_init(&reader, buffer);
    while (rc == Z_OK && grpc_byte_buffer_reader_peek(&reader, &slice)) {
        stream.next_in = GRPC_SLICE_START_PTR(*slice);
        stream.avail_in = (uInt)GRPC_SLICE_LENGTH(*slice);
        rc = unpack_piece(out, &stream, most);
    }
    /* As with gRPC and grpcio, a message is one compressed stream and nothing follows it. */
    if (rc == Z_STREAM_END && (stream.avail_in > 0 || has_more(&reader))) {
        rc = Z_DATA_ERROR;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    if (rc == Z_STREAM_END && out->count > 0) {
        grpc_slice *last = &out->slices[out->count - 1];
        grpc_slice used =
            grpc_slice_sub(*last, 0, GRPC_SLICE_LENGTH(*last) - (size_t)stream.avail_out);

        grpc_slice_unref(*last);
        *last = used;
    }
    inflateEnd(&stream);
    return rc;
}

grpc_status_code
gp__unpack(grpc_byte_buffer **buffer, size_t most, char why[GP__UNPACK_WHY])
{
    grpc_status_code code = GRPC_STATUS_OK;
    grpc_byte_buffer *packed = *buffer;
    grpc_compression_algorithm algorithm;
    output out = {NULL, 0, 0, 0};
    int rc;

    if (packed == NULL || most == 0 || packed->data.raw.compression == GRPC_COMPRESS_NONE) {
        return GRPC_STATUS_OK;
    }
    algorithm = packed->data.raw.compression;
    rc = unpack_buffer(&out, packed, algorithm == GRPC_COMPRESS_GZIP, most);
    grpc_byte_buffer_destroy(packed);
    *buffer = NULL;
    if (rc == Z_STREAM_END) {
        *buffer = grpc_raw_byte_buffer_create(out.slices, out.count);
    } else if (rc == Z_BUF_ERROR) {
        code = GRPC_STATUS_RESOURCE_EXHAUSTED;
        snprintf(why, GP__UNPACK_WHY,
                 "Received message larger than max (%zu bytes, when decompressed)", most);
    } else if (rc == Z_MEM_ERROR) {
        code = GRPC_STATUS_RESOURCE_EXHAUSTED;
        snprintf(why, GP__UNPACK_WHY, "out of memory to decompress a message");
    } else {
        code = GRPC_STATUS_INTERNAL;
        snprintf(why, GP__UNPACK_WHY, "Unexpected error decompressing data for algorithm %s",
                 algorithm == GRPC_COMPRESS_GZIP ? "gzip" : "deflate");
    }
    release_output(&out);
    return code;
}
