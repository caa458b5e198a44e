/* Structs of C: as Go's net/rpc has them, and as other programs may. */
#include <string.h>

#include "gob_fixture.h"
#include "gob_stream.h"
#include "support.h"

typedef struct response {
    gp_gob_text method;
    uint64_t seq;
    gp_gob_text error;
    bool last;
    int64_t offset;
} response;

static const gp_gob_member members[] = {
    {"ServiceMethod", GP_GOB_STRING, offsetof(response, method)},
    {"Seq", GP_GOB_UINT, offsetof(response, seq)},
    {"Error", GP_GOB_STRING, offsetof(response, error)},
    {"Last", GP_GOB_BOOL, offsetof(response, last)},
    {"Offset", GP_GOB_INT, offsetof(response, offset)},
};

#define TEXT(literal) {(literal), sizeof(literal) - 1}

static gp_gob_type *
response_type(size_t count)
{
    gp_gob_type *type;

    assert_int_equal(gp_gob_record_new(&type, "Response", members, count, NULL), 0);
    return type;
}

static bool
same(gp_gob_text a, const char *b)
{
    return a.len == strlen(b) && (a.len == 0 || memcmp(a.data, b, a.len) == 0);
}

static void
as_go_writes_them(void **state)
{
    gp_gob_type *type = response_type(3);
    gp_gob_output *output;
    gp_gob_encoder *encoder;
    const response first = {.method = TEXT("Plugin.Get"), .seq = 300, .error = TEXT("no")};
    const response zero = {.seq = 0};

    (void)state;
    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_encoder_new(&encoder, NULL), 0);
    assert_int_equal(gp_gob_record_encode(output, type, &first, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
    assert_string_equal(output_hex(output), "3aff810301010"
                                            "8526573706f6e736501ff8200010301"
                                            "0d536572766963654d6574686f64010c0001035365710106000105"
                                            "4572726f72010c000000"
                                            "17ff82010a506c7567696e2e47657401fe012c01026e6f00");
    assert_int_equal(gp_gob_record_encode(output, type, &zero, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
    assert_string_equal(output_hex(output), "03ff8200");
    gp_gob_encoder_free(encoder);
    gp_gob_output_free(output);
    gp_gob_type_unref(type);
}

/* The first message of |it|. */
static int
decode_record(stream *it, const gp_gob_type *type, void *out, char *text, size_t size)
{
    gp_gob_decoder *decoder;
    gp_gob_message message;
    gp_error err = GP_ERROR_INIT;
    int rc;

    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    assert_int_equal(gp_gob_decoder_feed(decoder, it->bytes.data, it->bytes.len, NULL), 0);
    assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 1);
    rc = gp_gob_record_decode(decoder, &message, type, out, &err);
    if (size > 0) {
        strncpy(text, gp_error_message(&err), size - 1);
        text[size - 1] = '\0';
    } else if (rc == 0) {
        const response *got = out;

        assert_true(same(got->method, "S.M"));
        assert_true(same(got->error, ""));
    }
    gp_error_release(&err);
    gp_gob_message_release(&message);
    gp_gob_decoder_unref(decoder);
    return rc;
}

/* Fields in any order, more than there are, and fewer. */
static void
as_others_write_them(void **state)
{
    gp_gob_type *type = response_type(5);
    response got;
    stream it = STREAM_INIT;

    (void)state;
    define_struct(&it, 200, "Answer", "Extra", 201, "Offset", ID_INT, "Seq", ID_UINT,
                  "ServiceMethod", ID_STRING, "Last", ID_BOOL, NULL);
    define_map(&it, 201, ID_STRING, ID_INTERFACE);
    put_int(&it, 200);
    put_uint(&it, 1);
    put_uint(&it, 1);
    put_text(&it, "key");
    put_text(&it, "int");
    put_int(&it, ID_INT);
    put_uint(&it, 2);
    put_uint(&it, 0);
    put_int(&it, 9);
    put_uint(&it, 1);
    put_int(&it, -4);
    put_uint(&it, 1);
    put_uint(&it, 77);
    put_uint(&it, 1);
    put_text(&it, "S.M");
    put_uint(&it, 1);
    put_uint(&it, 1);
    put_uint(&it, 0);
    end_message(&it);
    memset(&got, 0xff, sizeof(got));
    assert_int_equal(decode_record(&it, type, &got, NULL, 0), 0);
    assert_int_equal(got.seq, 77);
    assert_int_equal(got.offset, -4);
    assert_true(got.last);
    stream_release(&it);
    gp_gob_type_unref(type);
}

static void
refused(void **state)
{
    gp_gob_type *type = response_type(5);
    response got;
    stream it = STREAM_INIT;
    char text[200];

    (void)state;
    define_struct(&it, 200, "Answer", "Seq", ID_STRING, NULL);
    put_int(&it, 200);
    put_uint(&it, 0);
    end_message(&it);
    assert_int_equal(decode_record(&it, type, &got, text, sizeof(text)), GP_EGOB);
    assert_string_equal(text, "Response.Seq: the stream has a string, the class a uint");

    it.bytes.len = 0;
    define_struct(&it, 200, "Answer", "Other", ID_STRING, NULL);
    put_int(&it, 200);
    put_uint(&it, 0);
    end_message(&it);
    assert_int_equal(decode_record(&it, type, &got, text, sizeof(text)), GP_EGOB);
    assert_non_null(strstr(text, "no field in common"));

    for (int part = 0; part < 3; part++) {
        it.bytes.len = 0;
        define_struct(&it, 200, "Answer", "Seq", ID_UINT, "Other", ID_STRING, NULL);
        put_int(&it, 200);
        put_uint(&it, part == 1 ? 2 : part == 0 ? 1 : 3);
        put_uint(&it, 0xffff);
        end_message(&it);
        assert_int_equal(decode_record(&it, type, &got, text, sizeof(text)), GP_EGOB);
        assert_non_null(strstr(text, "is cut short or garbled"));
    }
    stream_release(&it);
    gp_gob_type_unref(type);
}

/* A single value, and nothing at all. */
static void
without_fields(void **state)
{
    static const gp_gob_member value = {NULL, GP_GOB_BOOL, 0};
    gp_gob_type *boolean;
    gp_gob_type *empty;
    gp_gob_output *output;
    gp_gob_encoder *encoder;
    stream it = STREAM_INIT;
    bool got = false;
    bool sent = true;
    char text[200];

    (void)state;
    assert_int_equal(gp_gob_record_new(&boolean, NULL, &value, 1, NULL), 0);
    assert_int_equal(gp_gob_record_new(&empty, "Empty", NULL, 0, NULL), 0);
    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_encoder_new(&encoder, NULL), 0);
    assert_int_equal(gp_gob_record_encode(output, boolean, &sent, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
    assert_string_equal(output_hex(output), "03020001");
    sent = false;
    assert_int_equal(gp_gob_record_encode(output, boolean, &sent, NULL), 0);
    assert_string_equal(output_hex(output), "03020000");
    assert_int_equal(gp_gob_record_encode(output, empty, NULL, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
    assert_non_null(strstr(output_hex(output), "05456d707479"));
    gp_gob_encoder_free(encoder);
    gp_gob_output_free(output);

    put_int(&it, ID_BOOL);
    put_uint(&it, 0);
    put_uint(&it, 1);
    end_message(&it);
    assert_int_equal(decode_record(&it, boolean, &got, text, sizeof(text)), 0);
    assert_true(got);
    it.bytes.len = 0;
    define_struct(&it, 200, "S", "A", ID_INT, NULL);
    put_int(&it, 200);
    put_uint(&it, 1);
    put_uint(&it, 1);
    put_uint(&it, 0);
    end_message(&it);
    assert_int_equal(decode_record(&it, empty, NULL, text, sizeof(text)), 0);
    assert_int_equal(decode_record(&it, boolean, &got, text, sizeof(text)), GP_EGOB);
    assert_string_equal(text, "bool: the stream has the struct S, the class a bool");
    stream_release(&it);
    gp_gob_type_unref(boolean);
    gp_gob_type_unref(empty);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_go_writes_them), /* first: its type has id 65, as in Go */
        cmocka_unit_test(as_others_write_them),
        cmocka_unit_test(refused),
        cmocka_unit_test(without_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
