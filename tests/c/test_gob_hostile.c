/* Streams that are wrong or malicious: an error says so, and memory and time stay bounded. */
#include <stdio.h>
#include <string.h>

#include "gob_fixture.h"
#include "gob_stream.h"
#include "support.h"

static node_world world;

/* The first value of a stream, untyped. */
static void
check(stream *it, const char *text)
{
    assert_string_equal(decoded(&world, it->bytes.data, it->bytes.len, NULL), text);
    assert_int_equal(world.made, 0);
}

static void
check_hex(const char *digits, const char *text)
{
    size_t len;
    const unsigned char *bytes = from_hex(digits, &len);

    assert_string_equal(decoded(&world, bytes, len, NULL), text);
    assert_int_equal(world.made, 0);
}

static void
garbled_messages(void **state)
{
    (void)state;
    check_hex("90", "error: the length of a gob message is garbled");
    check_hex("00", "error: a gob message is empty");
    check_hex("f8ffffffffffffffff",
              "error: a gob message has 18446744073709551615 bytes, and 1073741824 are allowed");
    check_hex("01ff", "error: a gob message has no id of a type");
    check_hex("020900", "error: type 5 is defined again");
    check_hex("03000000", "error: type 0 is used and has not been defined");
    check_hex("020200", "error: bool: a bool is cut short or garbled");
    check_hex("0402 01 01 00", "error: bool: a bool is cut short or garbled");
    check_hex("04 0c 00 05 61", "error: string: a string is cut short or garbled");
    check_hex("05 0c 00 ff ff 61", "error: string: a string is cut short or garbled");
    check_hex("04 0e 00 05 ff", "error: complex: a complex is cut short or garbled");
    check_hex("04 ff80 0000", "error: type 64 is used and has not been defined");
}

static void
garbled_definitions(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    check_hex("04 ff81 00 00", "error: the definition of type 65 is incomplete");
    check_hex("03 ff81 08", "error: the definition of type 65 is garbled");
    check_hex("05 ff81 02 00 00", "error: the definition of type 65 is incomplete");
    check_hex("05 ff81 04 00 00", "error: the definition of type 65 is incomplete");
    check_hex("07 ff81 03 00 02 00 00", "error: type 65 is defined as two kinds at once");
    check_hex("06 ff81 05 00 00 00", "error: a gob definition is followed by garbage");

    define_slice(&it, 65, ID_INT);
    define_slice(&it, 65, ID_INT);
    check(&it, "error: type 65 is defined again");
    it.bytes.len = 0;
    define_slice(&it, 8, ID_INT);
    check(&it, "error: type 8 is defined again");
    it.bytes.len = 0;
    define_slice(&it, 65, -5);
    check(&it, "error: the definition of type 65 is garbled");
    it.bytes.len = 0;
    define_array(&it, 65, ID_INT, -1);
    check(&it, "error: the definition of type 65 is garbled");
    it.bytes.len = 0;
    define_struct(&it, 65, "S", "", ID_INT, NULL);
    check(&it, "error: field 0 of the struct S has no name");
    it.bytes.len = 0;
    define_struct(&it, 65, "S", "A", 66, NULL);
    put_int(&it, 65);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, "error: type 66 is used and has not been defined");
    stream_release(&it);
}

/* A definition in an interface value that is no definition, or defines a type again. */
static void
garbled_interfaces(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    put_int(&it, ID_INTERFACE);
    put_uint(&it, 0);
    put_text(&it, "name");
    put_int(&it, 99);
    put_uint(&it, 1);
    end_message(&it);
    check(&it, "error: type 99 is used and has not been defined");

    it.bytes.len = 0;
    define_slice(&it, 65, ID_INT);
    put_int(&it, ID_INTERFACE);
    put_uint(&it, 0);
    put_text(&it, "name");
    put_int(&it, -65);
    put_uint(&it, 5);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, "error: type 65 is defined again");

    it.bytes.len = 0;
    put_int(&it, ID_INTERFACE);
    put_uint(&it, 0);
    put_text(&it, "name");
    put_int(&it, INT64_MIN);
    end_message(&it);
    check(&it, "error: a type is defined where no definition can be");

    /* Its value is cut short. */
    it.bytes.len = 0;
    put_int(&it, ID_INTERFACE);
    put_uint(&it, 0);
    put_text(&it, "int");
    put_int(&it, ID_INT);
    put_uint(&it, 100);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, "error: an int is cut short or garbled");
    stream_release(&it);
}

/* More elements than there are bytes. */
static void
counts(void **state)
{
    static const uint64_t counts[] = {3, 1000, (uint64_t)1 << 40, INT64_MAX, UINT64_MAX};
    stream it = STREAM_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        it.bytes.len = 0;
        define_slice(&it, 65, ID_INT);
        put_int(&it, 65);
        put_uint(&it, 0);
        put_uint(&it, counts[i]);
        put_int(&it, 1);
        put_int(&it, 1);
        end_message(&it);
        check(&it, "error: []int: a []int is cut short or garbled");

        it.bytes.len = 0;
        define_map(&it, 65, ID_INTERFACE, ID_INT);
        put_int(&it, 65);
        put_uint(&it, 0);
        put_uint(&it, counts[i]);
        put_int(&it, 0);
        put_int(&it, 0);
        put_int(&it, 0);
        end_message(&it);
        assert_int_equal(strncmp(decoded(&world, it.bytes.data, it.bytes.len, NULL), "error: ", 7),
                         0);

        it.bytes.len = 0;
        define_array(&it, 65, ID_INT, 2);
        put_int(&it, 65);
        put_uint(&it, 0);
        put_uint(&it, counts[i]);
        put_int(&it, 1);
        put_int(&it, 1);
        end_message(&it);
        check(&it, "error: [2]int: a [2]int is cut short or garbled");
    }
    assert_int_equal(world.made, 0);
    stream_release(&it);
}

/* Fields beyond those that the struct has. */
static void
field_numbers(void **state)
{
    static const uint64_t deltas[] = {3, 1000, INT64_MAX, UINT64_MAX};
    stream it = STREAM_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++) {
        it.bytes.len = 0;
        define_struct(&it, 65, "S", "A", ID_INT, "B", ID_INT, NULL);
        put_int(&it, 65);
        put_uint(&it, deltas[i]);
        put_int(&it, 1);
        put_uint(&it, 0);
        end_message(&it);
        check(&it, "error: S: the struct S is cut short or garbled");
    }
    /* Not even the end. */
    it.bytes.len = 0;
    define_struct(&it, 65, "S", "A", ID_INT, "B", ID_INT, NULL);
    put_int(&it, 65);
    put_uint(&it, 1);
    put_int(&it, 1);
    end_message(&it);
    check(&it, "error: S.A: the struct S is cut short or garbled");
    stream_release(&it);
}

/* Types of which every value contains another one of the same type. */
static void
types_without_end(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    define_array(&it, 65, 65, 1);
    put_int(&it, 65);
    put_uint(&it, 0);
    for (int i = 0; i < 9000; i++) {
        put_uint(&it, 1);
    }
    end_message(&it);
    assert_non_null(
        strstr(decoded(&world, it.bytes.data, it.bytes.len, NULL), "is cut short or garbled"));

    it.bytes.len = 0;
    define_slice(&it, 65, 66);
    define_slice(&it, 66, 65);
    put_int(&it, 65);
    put_uint(&it, 0);
    put_uint(&it, 2);
    put_uint(&it, 0);
    put_uint(&it, 1);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, "[[], [[]]]");

    it.bytes.len = 0;
    define_map(&it, 65, 65, 65);
    put_int(&it, 65);
    put_uint(&it, 0);
    put_uint(&it, 1);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, "{{}: {}}");
    stream_release(&it);
}

static const char *
error_with(const gp_gob_limits *limits, const stream *it)
{
    static char text[1024];
    gp_gob_decoder *decoder;
    gp_gob_message message;
    gp_error err = GP_ERROR_INIT;
    void *value;
    int rc;

    assert_int_equal(gp_gob_decoder_new(&decoder, limits, NULL), 0);
    assert_int_equal(gp_gob_decoder_feed(decoder, it->bytes.data, it->bytes.len, NULL), 0);
    rc = gp_gob_decoder_next(decoder, &message, &err);
    if (rc > 0) {
        rc = gp_gob_decode(decoder, &message, NULL, &node_sink, &world, &value, &err);
    }
    if (rc == 0) {
        node_free(&world, value);
    }
    snprintf(text, sizeof(text), "%s", rc == 0 ? "" : gp_error_message(&err));
    if (rc < 0) {
        assert_int_equal(rc, GP_EGOB);
        assert_int_equal(err.number, GP_GOB_CORRUPT);
    }
    gp_error_release(&err);
    gp_gob_message_release(&message);
    gp_gob_decoder_unref(decoder);
    assert_int_equal(world.made, 0);
    return text;
}

/* |levels| slices within each other, in an interface or not. */
static void
put_nested(stream *it, int levels, bool interface)
{
    it->bytes.len = 0;
    define_slice(it, 65, interface ? ID_INTERFACE : 65);
    put_int(it, 65);
    put_uint(it, 0);
    for (int i = 1; i < levels; i++) {
        put_uint(it, 1);
        if (interface) {
            put_text(it, "n");
            put_int(it, 65);
            put_uint(it, 1);
            put_uint(it, 0);
        }
    }
    put_uint(it, 0);
    end_message(it);
}

static void
depth(void **state)
{
    const gp_gob_limits shallow = {.depth = 5};
    stream it = STREAM_INIT;

    (void)state;
    put_nested(&it, 5, false);
    assert_string_equal(error_with(&shallow, &it), "");
    put_nested(&it, 6, false);
    assert_non_null(strstr(error_with(&shallow, &it), "nested too deep: more than 5"));
    put_nested(&it, 3, true);
    assert_string_equal(error_with(&shallow, &it), "");
    put_nested(&it, 4, true);
    assert_non_null(strstr(error_with(&shallow, &it), "values are nested more than 5 deep"));

    put_nested(&it, 10000, false);
    assert_string_equal(error_with(NULL, &it), "");
    put_nested(&it, 10001, false);
    assert_non_null(strstr(error_with(NULL, &it), "more than 10000"));
    put_nested(&it, 100000, false);
    assert_non_null(strstr(error_with(NULL, &it), "more than 10000"));
    put_nested(&it, 100000, true);
    assert_non_null(strstr(error_with(NULL, &it), "more than 10000"));
    stream_release(&it);
}

static void
other_limits(void **state)
{
    stream it = STREAM_INIT;
    char name[100];

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    put_int(&it, ID_STRING);
    put_uint(&it, 0);
    put_text(&it, name);
    end_message(&it);
    assert_string_equal(error_with(&(gp_gob_limits){.message = 102}, &it), "");
    assert_string_equal(error_with(&(gp_gob_limits){.message = 101}, &it),
                        "a gob message has 102 bytes, and 101 are allowed");

    it.bytes.len = 0;
    define_slice(&it, 65, ID_INT);
    define_slice(&it, 66, ID_INT);
    put_int(&it, 66);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    assert_string_equal(error_with(&(gp_gob_limits){.types = 2}, &it), "");
    assert_string_equal(error_with(&(gp_gob_limits){.types = 1}, &it),
                        "the stream defines more than 1 types");
    assert_string_equal(error_with(&(gp_gob_limits){.definitions = 20}, &it), "");
    assert_string_equal(error_with(&(gp_gob_limits){.definitions = 19}, &it),
                        "the stream has more than 19 bytes of definitions");

    it.bytes.len = 0;
    define_struct(&it, 65, name, "A", ID_INT, "B", ID_INT, NULL);
    define_slice(&it, 66, 65);
    put_int(&it, 66);
    put_uint(&it, 0);
    put_uint(&it, 3);
    put_uint(&it, 0);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    assert_string_equal(error_with(&(gp_gob_limits){.name = 99, .fields = 2, .slots = 6}, &it), "");
    assert_string_equal(error_with(&(gp_gob_limits){.name = 98}, &it),
                        "the definition of type 65 has a name of 99 bytes, and 98 are allowed");
    assert_non_null(
        strstr(error_with(&(gp_gob_limits){.fields = 1}, &it), "has 2 fields, and 1 are allowed"));
    assert_non_null(strstr(error_with(&(gp_gob_limits){.slots = 5}, &it),
                           "fields of structs in one message: more than 5"));

    it.bytes.len = 0;
    put_int(&it, ID_INTERFACE);
    put_uint(&it, 0);
    put_text(&it, name);
    put_int(&it, ID_INT);
    put_uint(&it, 2);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    assert_string_equal(error_with(&(gp_gob_limits){.name = 99}, &it), "");
    assert_string_equal(error_with(&(gp_gob_limits){.name = 98}, &it),
                        "the name of a type has 99 bytes, and 98 are allowed");
    stream_release(&it);
}

/* The parts of a value that is split by definitions count together. */
static void
a_split_value_is_limited(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    define_slice(&it, 70, ID_INTERFACE);
    put_int(&it, 70);
    put_uint(&it, 0);
    put_uint(&it, 1000000);
    for (int i = 0; i < 20; i++) {
        put_text(&it, "name");
        put_int(&it, -80 - i);
        put_byte(&it, 5); /* GobEncoderT{} */
        put_byte(&it, 0);
        put_byte(&it, 0);
        end_message(&it);
        put_int(&it, 80 + i);
        put_uint(&it, 1);
        put_uint(&it, 0);
        put_text(&it, "0123456789");
    }
    end_message(&it);
    assert_string_equal(error_with(&(gp_gob_limits){.message = 100}, &it),
                        "a gob value is longer than 100 bytes");
    assert_string_equal(error_with(NULL, &it), "an interface is cut short or garbled");
    stream_release(&it);
}

/*
 * Thousands of types that contain each other, each of which is the type of a message: pairs of
 * types are compiled once, also those that do not fit.
 */
static void
long_chains_of_types(void **state)
{
    enum { LEVELS = 2000, FIRST = 100 };
    gp_gob_group *group;
    gp_gob_type *type;

    (void)state;
    assert_int_equal(gp_gob_group_new(&group, NULL), 0);
    type = struct_type(group, "List");
    set_fields(type, "Next", slice_of(group, NULL, type), NULL);
    for (int fitting = 0; fitting < 2; fitting++) {
        stream it = STREAM_INIT;
        gp_gob_decoder *decoder;

        for (int id = FIRST; id < FIRST + 2 * LEVELS; id += 2) {
            define_struct(&it, id, "List", "Next", id + 1, "Any", ID_INTERFACE, NULL);
            define_slice(&it, id + 1, id + 2);
        }
        define_struct(&it, FIRST + 2 * LEVELS, "List", fitting ? "Other" : "Next", ID_STRING, NULL);
        assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
        assert_int_equal(gp_gob_decoder_feed(decoder, it.bytes.data, it.bytes.len, NULL), 0);
        for (int id = FIRST; id < FIRST + 2 * LEVELS; id += 2) {
            gp_gob_message message;
            void *value;

            it.bytes.len = 0;
            put_int(&it, id);
            put_uint(&it, 0);
            end_message(&it);
            assert_int_equal(gp_gob_decoder_feed(decoder, it.bytes.data, it.bytes.len, NULL), 0);
            assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 1);
            assert_int_equal(
                gp_gob_decode(decoder, &message, type, &node_sink, &world, &value, NULL),
                fitting ? 0 : GP_EGOB);
            if (fitting) {
                node_free(&world, value);
            }
            gp_gob_message_release(&message);
        }
        gp_gob_decoder_unref(decoder);
        stream_release(&it);
    }
    assert_int_equal(world.made, 0);
    gp_gob_group_unref(group);
}

/* A great many types that are decoded into a great many others. */
static void
pairs_of_types(void **state)
{
    enum { TYPES = 60, FIRST = 100 };
    const gp_gob_limits limits = {.definitions = 16 << 10};
    gp_gob_group *group;
    gp_gob_decoder *decoder;
    gp_gob_message messages[TYPES];
    stream it = STREAM_INIT;
    gp_error err = GP_ERROR_INIT;
    int rc = 0;

    (void)state;
    assert_int_equal(gp_gob_group_new(&group, NULL), 0);
    assert_int_equal(gp_gob_decoder_new(&decoder, &limits, NULL), 0);
    for (int i = 0; i < TYPES; i++) {
        define_struct(&it, FIRST + i, "S", "A", ID_INT, "B", ID_INT, "C", ID_INT, "D", ID_INT, "E",
                      ID_INT, "F", ID_INT, "G", ID_INT, "H", ID_INT, "I", ID_INT, "J", ID_INT,
                      NULL);
        put_int(&it, FIRST + i);
        put_uint(&it, 0);
        end_message(&it);
        assert_int_equal(gp_gob_decoder_feed(decoder, it.bytes.data, it.bytes.len, NULL), 0);
        assert_int_equal(gp_gob_decoder_next(decoder, &messages[i], NULL), 1);
        it.bytes.len = 0;
    }
    for (int i = 0; i < 10000 && rc == 0; i++) {
        gp_gob_type *type = struct_type(group, "S");

        set_fields(type, "A", simple_type(group, GP_GOB_INT, 0), NULL);
        for (int j = 0; j < TYPES && rc == 0; j++) {
            void *value;

            rc = gp_gob_decode(decoder, &messages[j], type, &node_sink, &world, &value, &err);
            if (rc == 0) {
                node_free(&world, value);
            }
        }
    }
    assert_int_equal(rc, GP_EGOB);
    assert_string_equal(gp_error_message(&err),
                        "the stream has too many types under too many names");
    gp_error_release(&err);
    for (int i = 0; i < TYPES; i++) {
        gp_gob_message_release(&messages[i]);
    }
    gp_gob_decoder_unref(decoder);
    gp_gob_group_unref(group);
    stream_release(&it);
}

/* A stream that has failed stays so. */
static void
failures_are_final(void **state)
{
    static const unsigned char good[] = {3, 4, 0, 6};
    gp_gob_decoder *decoder;
    gp_gob_message message;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    assert_int_equal(gp_gob_decoder_feed(decoder, "\0", 1, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gp_gob_decoder_next(decoder, &message, &err), GP_EGOB);
        assert_string_equal(gp_error_message(&err), "a gob message is empty");
        assert_int_equal(err.number, GP_GOB_CORRUPT);
        gp_error_release(&err);
        assert_int_equal(gp_gob_decoder_feed(decoder, good, sizeof(good), NULL), 0);
    }
    gp_gob_decoder_unref(decoder);
}

/* As Go does, what follows the value in its message is ignored. */
static void
bytes_behind_a_value(void **state)
{
    (void)state;
    check_hex("05 04 00 06 07 07", "3");
    check_hex("0b 10 00 03 696e74 04 02 00 06 ff", "<int>3");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbled_messages),
        cmocka_unit_test(garbled_definitions),
        cmocka_unit_test(garbled_interfaces),
        cmocka_unit_test(counts),
        cmocka_unit_test(field_numbers),
        cmocka_unit_test(types_without_end),
        cmocka_unit_test(depth),
        cmocka_unit_test(other_limits),
        cmocka_unit_test(a_split_value_is_limited),
        cmocka_unit_test(long_chains_of_types),
        cmocka_unit_test(pairs_of_types),
        cmocka_unit_test(failures_are_final),
        cmocka_unit_test(bytes_behind_a_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
