#include <string.h>
#include <zlib.h>

#include "rpc/grpc_symbols.h"
#include "rpc/unpack.h"
#include "support.h"

enum { SIZE = 5 << 20 };

static unsigned char plain[SIZE];

/*
 * |plain|'s first |size| bytes in one of the two forms, as gRPC receives them: in several pieces.
 */
static grpc_byte_buffer *
pack(size_t size, grpc_compression_algorithm algorithm, size_t cut)
{
    static unsigned char packed[SIZE + (64 << 10)];
    z_stream stream = {.zalloc = NULL};
    grpc_slice pieces[3];
    grpc_byte_buffer *buffer;
    size_t len;

    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED,
                                  MAX_WBITS + (algorithm == GRPC_COMPRESS_GZIP ? 16 : 0), 8,
                                  Z_DEFAULT_STRATEGY),
                     Z_OK);
    stream.next_in = plain;
    stream.avail_in = (uInt)size;
    stream.next_out = packed;
    stream.avail_out = sizeof(packed);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    len = stream.total_out - cut;
    deflateEnd(&stream);
    pieces[0] = grpc_slice_from_copied_buffer((char *)packed, 1);
    pieces[1] = grpc_slice_from_copied_buffer((char *)packed + 1, len / 2);
    pieces[2] = grpc_slice_from_copied_buffer((char *)packed + 1 + len / 2, len - 1 - len / 2);
    buffer = grpc_raw_compressed_byte_buffer_create(pieces, 3, algorithm);
    for (int i = 0; i < 3; i++) {
        grpc_slice_unref(pieces[i]);
    }
    return buffer;
}

static void
packed_messages_are_unpacked(void **state)
{
    static const grpc_compression_algorithm algorithms[] = {GRPC_COMPRESS_GZIP,
                                                            GRPC_COMPRESS_DEFLATE};
    static const size_t sizes[] = {0, 1, 100, 16 << 10, (16 << 10) + 1, 1 << 20, SIZE};
    char why[GP__UNPACK_WHY];

    (void)state;
    for (size_t i = 0; i < SIZE; i++) {
        plain[i] = (unsigned char)(i * i >> 7);
    }
    for (size_t i = 0; i < 14; i++) {
        size_t size = sizes[i / 2];
        grpc_byte_buffer *buffer = pack(size, algorithms[i % 2], 0);
        grpc_byte_buffer_reader reader;
        grpc_slice all;

        assert_int_equal(gp__unpack(&buffer, size > 0 ? size : 1, why), GRPC_STATUS_OK);
        assert_int_equal(buffer->data.raw.compression, GRPC_COMPRESS_NONE);
        assert_int_equal(grpc_byte_buffer_length(buffer), size);
        grpc_byte_buffer_reader_init(&reader, buffer);
        all = grpc_byte_buffer_reader_readall(&reader);
        assert_memory_equal(GRPC_SLICE_START_PTR(all), plain, size);
        grpc_slice_unref(all);
        grpc_byte_buffer_reader_destroy(&reader);
        grpc_byte_buffer_destroy(buffer);
    }
}

static void
messages_beyond_the_limit_are_refused(void **state)
{
    char why[GP__UNPACK_WHY];

    (void)state;
    memset(plain, 0, SIZE);
    for (size_t most = 1; most < SIZE; most = 3 * most + 1) {
        grpc_byte_buffer *buffer = pack(SIZE, GRPC_COMPRESS_GZIP, 0);

        assert_int_equal(gp__unpack(&buffer, most, why), GRPC_STATUS_RESOURCE_EXHAUSTED);
        assert_null(buffer);
        assert_memory_equal(why, "Received message larger than max", 32);
    }
}

static void
broken_messages_are_refused(void **state)
{
    grpc_slice slice = grpc_slice_from_static_string("this was never packed");
    grpc_byte_buffer *buffer =
        grpc_raw_compressed_byte_buffer_create(&slice, 1, GRPC_COMPRESS_DEFLATE);
    char why[GP__UNPACK_WHY];

    (void)state;
    assert_int_equal(gp__unpack(&buffer, SIZE, why), GRPC_STATUS_INTERNAL);
    assert_null(buffer);
    buffer = pack(1000, GRPC_COMPRESS_GZIP, 5); /* without its end */
    assert_int_equal(gp__unpack(&buffer, SIZE, why), GRPC_STATUS_INTERNAL);
    assert_null(buffer);
    assert_non_null(strstr(why, "gzip"));
    buffer = grpc_raw_compressed_byte_buffer_create(NULL, 0, GRPC_COMPRESS_GZIP);
    assert_int_equal(gp__unpack(&buffer, SIZE, why), GRPC_STATUS_INTERNAL);
    assert_null(buffer);
}

/* Behind the packed data, in the same slice or in another one. */
static void
bytes_after_the_end_are_refused(void **state)
{
    char why[GP__UNPACK_WHY];

    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        grpc_byte_buffer *first = pack(1000, GRPC_COMPRESS_GZIP, 0);
        grpc_byte_buffer *second = pack(10, GRPC_COMPRESS_GZIP, 0);
        grpc_byte_buffer *joined;
        grpc_byte_buffer_reader reader;
        grpc_slice all[2];

        grpc_byte_buffer_reader_init(&reader, first);
        all[0] = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        grpc_byte_buffer_reader_init(&reader, second);
        all[1] = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        joined = grpc_raw_compressed_byte_buffer_create(all, 2, GRPC_COMPRESS_GZIP);
        if (apart == 0) {
            grpc_slice whole;

            grpc_byte_buffer_reader_init(&reader, joined);
            whole = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
            grpc_byte_buffer_destroy(joined);
            joined = grpc_raw_compressed_byte_buffer_create(&whole, 1, GRPC_COMPRESS_GZIP);
            grpc_slice_unref(whole);
        }
        grpc_slice_unref(all[0]);
        grpc_slice_unref(all[1]);
        grpc_byte_buffer_destroy(first);
        grpc_byte_buffer_destroy(second);
        assert_int_equal(gp__unpack(&joined, SIZE, why), GRPC_STATUS_INTERNAL);
        assert_null(joined);
    }
}

static void
other_messages_stay_as_they_are(void **state)
{
    grpc_slice slice = grpc_slice_from_static_string("plain");
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_byte_buffer *same = buffer;
    char why[GP__UNPACK_WHY];

    (void)state;
    assert_int_equal(gp__unpack(&buffer, 1, why), GRPC_STATUS_OK);
    assert_ptr_equal(buffer, same);
    grpc_byte_buffer_destroy(buffer);
    buffer = same = pack(1000, GRPC_COMPRESS_GZIP, 0);
    assert_int_equal(gp__unpack(&buffer, 0, why), GRPC_STATUS_OK);
    assert_ptr_equal(buffer, same);
    grpc_byte_buffer_destroy(buffer);
    buffer = NULL;
    assert_int_equal(gp__unpack(&buffer, 1, why), GRPC_STATUS_OK);
}

static void
memory_is_short(void **state)
{
    bool short_of_it = true;

    (void)state;
    for (long failing = 0; short_of_it; failing++) {
        grpc_byte_buffer *buffer = pack(SIZE, GRPC_COMPRESS_GZIP, 0);
        char why[GP__UNPACK_WHY];
        grpc_status_code code;

        alloc_begin(failing);
        code = gp__unpack(&buffer, SIZE, why);
        short_of_it = alloc_failures() > 0;
        alloc_end();
        assert_int_equal(code, short_of_it ? GRPC_STATUS_RESOURCE_EXHAUSTED : GRPC_STATUS_OK);
        if (buffer != NULL) {
            grpc_byte_buffer_destroy(buffer);
        }
    }
}

static int
load_grpc(void **state)
{
    (void)state;
    return gp__grpc_load(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_messages_are_unpacked),
        cmocka_unit_test(messages_beyond_the_limit_are_refused),
        cmocka_unit_test(broken_messages_are_refused),
        cmocka_unit_test(other_messages_stay_as_they_are),
        cmocka_unit_test(bytes_after_the_end_are_refused),
        cmocka_unit_test(memory_is_short),
    };

    return cmocka_run_group_tests(tests, load_grpc, NULL);
}
