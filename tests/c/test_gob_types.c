/* What decodes into what, and what is said if it does not. */
#include <stdio.h>
#include <string.h>

#include "gob_fixture.h"
#include "gob_stream.h"
#include "support.h"

static gp_gob_group *group;
static node_world world;

/* Types without elements. */
static gp_gob_type *boolean, *integer, *int8, *uinteger, *uint16, *floating, *float32, *complex64,
    *bytes, *string, *any;

static int
set_up(void **state)
{
    (void)state;
    assert_int_equal(gp_gob_group_new(&group, NULL), 0);
    boolean = simple_type(group, GP_GOB_BOOL, 0);
    integer = simple_type(group, GP_GOB_INT, 0);
    int8 = simple_type(group, GP_GOB_INT, 8);
    uinteger = simple_type(group, GP_GOB_UINT, 0);
    uint16 = simple_type(group, GP_GOB_UINT, 16);
    floating = simple_type(group, GP_GOB_FLOAT, 0);
    float32 = simple_type(group, GP_GOB_FLOAT, 32);
    complex64 = simple_type(group, GP_GOB_COMPLEX, 32);
    bytes = simple_type(group, GP_GOB_BYTES, 0);
    string = simple_type(group, GP_GOB_STRING, 0);
    any = simple_type(group, GP_GOB_INTERFACE, 0);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    gp_gob_group_unref(group);
    assert_int_equal(world.made, 0);
    return 0;
}

/* The stream must decode into |type| as that text. */
static void
check(stream *it, const gp_gob_type *type, const char *text)
{
    assert_string_equal(decoded(&world, it->bytes.data, it->bytes.len, type), text);
}

/* A struct with one field, A, that has a value of a predefined type: a number, or a text. */
static void
put_one(stream *it, int id, uint64_t number, const char *text)
{
    it->bytes.len = 0;
    define_struct(it, 70, "One", "A", id, NULL);
    put_int(it, 70);
    put_uint(it, 1);
    if (text != NULL) {
        put_text(it, text);
    } else {
        put_uint(it, number);
    }
    put_uint(it, 0);
    end_message(it);
}

static gp_gob_type *
struct_of(const char *name, const char *field, gp_gob_type *type)
{
    gp_gob_type *it = struct_type(group, name);

    set_fields(it, field, type, NULL);
    return it;
}

static void
basic_types_do_not_mix(void **state)
{
    static const int ids[] = {ID_BOOL, ID_INT, ID_UINT, ID_FLOAT, ID_BYTES, ID_STRING};
    static const char *const names[] = {"a bool",  "an int", "a uint",
                                        "a float", "bytes",  "a string"};
    gp_gob_type *types[] = {boolean, integer, uinteger, floating, bytes, string};
    stream it = STREAM_INIT;

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        put_one(&it, ids[i], 1, ids[i] == ID_BYTES || ids[i] == ID_STRING ? "text" : NULL);
        for (size_t j = 0; j < 6; j++) {
            gp_gob_type *type = struct_of("Mine", "A", types[j]);
            char text[128];

            snprintf(text, sizeof(text), "error: Mine.A: the stream has %s, the class %s", names[i],
                     names[j]);
            if (i != j) {
                check(&it, type, text);
            } else {
                assert_int_equal(
                    strncmp(decoded(&world, it.bytes.data, it.bytes.len, type), "Mine{A: ", 8), 0);
            }
        }
    }
    stream_release(&it);
}

static void
ranges(void **state)
{
    stream it = STREAM_INIT;
    const struct {
        int id;
        uint64_t number; /* as sent */
        gp_gob_type *type;
        const char *text;
    } cases[] = {
        {ID_INT, 254, int8, "One{A: 127}"},
        {ID_INT, 256, int8, "error: One.A: the number does not fit into an int8"},
        {ID_INT, 255, int8, "One{A: -128}"},
        {ID_INT, 257, int8, "error: One.A: the number does not fit into an int8"},
        {ID_INT, UINT64_MAX, integer, "One{A: -9223372036854775808}"},
        {ID_UINT, 65535, uint16, "One{A: 65535u}"},
        {ID_UINT, 65536, uint16, "error: One.A: the number does not fit into a uint16"},
        {ID_FLOAT, 0x3140, float32, "One{A: 17}"},
        {ID_FLOAT, 0xf07f, float32, "One{A: inf}"},
        {ID_FLOAT, UINT64_C(0xffffffffffffef7f), floating, "One{A: 1.79769e+308}"},
        {ID_FLOAT, UINT64_C(0xffffffffffffef7f), float32,
         "error: One.A: the number does not fit into a float32"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put_one(&it, cases[i].id, cases[i].number, NULL);
        check(&it, struct_of("One", "A", cases[i].type), cases[i].text);
    }
    stream_release(&it);
}

static void
complex_ranges(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    define_struct(&it, 70, "One", "A", ID_COMPLEX, NULL);
    put_int(&it, 70);
    put_uint(&it, 1);
    put_uint(&it, 0);
    put_uint(&it, UINT64_C(0xffffffffffffef7f));
    put_uint(&it, 0);
    end_message(&it);
    check(&it, struct_of("One", "A", simple_type(group, GP_GOB_COMPLEX, 0)),
          "One{A: (0,1.79769e+308)}");
    check(&it, struct_of("One", "A", complex64),
          "error: One.A: the number does not fit into a complex64");
    stream_release(&it);
}

/* Fields are found by their names: others are skipped, missing ones stay away. */
static void
fields_by_name(void **state)
{
    stream it = STREAM_INIT;
    gp_gob_type *type = struct_type(group, "Mine");

    (void)state;
    set_fields(type, "C", string, "New", integer, "A", integer, NULL);
    define_struct(&it, 70, "Theirs", "A", ID_INT, "B", 71, "C", ID_STRING, "D", ID_COMPLEX, "E", 72,
                  "F", 73, "G", ID_INTERFACE, "H", 74, NULL);
    define_map(&it, 71, ID_STRING, 72);
    define_array(&it, 72, ID_INT, 2);
    define_struct(&it, 73, "Inner", "A", ID_STRING, "B", 70, NULL);
    define_opaque(&it, 74, "Time", GP_GOB_ENCODER);
    put_int(&it, 70);
    put_uint(&it, 1); /* A */
    put_int(&it, 5);
    put_uint(&it, 1); /* B */
    put_uint(&it, 1);
    put_text(&it, "key");
    put_uint(&it, 2);
    put_int(&it, 1);
    put_int(&it, 2);
    put_uint(&it, 1); /* C */
    put_text(&it, "text");
    put_uint(&it, 1); /* D */
    put_uint(&it, 0x3140);
    put_uint(&it, 0xf03f);
    put_uint(&it, 2); /* F */
    put_uint(&it, 1);
    put_text(&it, "inner");
    put_uint(&it, 0);
    put_uint(&it, 1); /* G */
    put_text(&it, "int");
    put_int(&it, ID_INT);
    put_uint(&it, 2);
    put_uint(&it, 0);
    put_int(&it, 7);
    put_uint(&it, 1); /* H */
    put_text(&it, "opaque");
    put_uint(&it, 0);
    end_message(&it);
    check(&it, type, "Mine{C: \"text\", A: 5}");
    check(&it, NULL,
          "Theirs{A: 5, B: {\"key\": [1, 2]}, C: \"text\", D: (17,1), "
          "F: Inner{A: \"inner\"}, G: <int>7, H: Time<6f7061717565>}");
    stream_release(&it);
}

static void
nothing_in_common(void **state)
{
    stream it = STREAM_INIT;
    gp_gob_type *empty = struct_type(group, "Empty");

    (void)state;
    set_fields(empty, NULL);
    put_one(&it, ID_INT, 2, NULL);
    check(
        &it, struct_of("Mine", "B", integer),
        "error: Mine: the struct One of the stream and the struct Mine of the class have no field "
        "in common");
    /* An empty struct takes everything, and every struct takes an empty one. */
    check(&it, empty, "Empty{}");
    it.bytes.len = 0;
    define_struct(&it, 70, "Nothing", NULL);
    put_int(&it, 70);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, struct_of("Mine", "B", integer), "Mine{}");
    /* As in Go, that is no error for a struct within another value. */
    it.bytes.len = 0;
    define_struct(&it, 70, "Outer", "A", 71, NULL);
    define_struct(&it, 71, "Inner", "X", ID_INT, NULL);
    put_int(&it, 70);
    put_uint(&it, 1);
    put_uint(&it, 1);
    put_int(&it, 5);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, struct_of("Outer", "A", struct_of("Mine", "B", integer)), "Outer{A: Mine{}}");
    stream_release(&it);
}

/* The path has an index if there is a value that does not fit, and is of the types alone if not. */
static void
paths(void **state)
{
    stream it = STREAM_INIT;
    gp_gob_type *item = struct_of("Item", "Price", floating);
    gp_gob_type *order = struct_type(group, "Order");

    (void)state;
    set_fields(order, "Items", slice_of(group, NULL, item), "ByName",
               map_of(group, NULL, string, item), NULL);
    define_struct(&it, 70, "Order", "Items", 71, "ByName", 73, NULL);
    define_slice(&it, 71, 72);
    define_struct(&it, 72, "Item", "Price", ID_STRING, NULL);
    define_map(&it, 73, ID_STRING, 72);
    put_int(&it, 70);
    put_uint(&it, 1);
    put_uint(&it, 2);
    put_uint(&it, 0);
    put_uint(&it, 1);
    put_text(&it, "cheap");
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, order, "error: Order.Items[1].Price: the stream has a string, the class a float");

    it.bytes.len = 0;
    define_struct(&it, 70, "Order", "Items", 71, "ByName", 73, NULL);
    define_slice(&it, 71, 72);
    define_struct(&it, 72, "Item", "Price", ID_STRING, NULL);
    define_map(&it, 73, ID_STRING, 72);
    put_int(&it, 70);
    put_uint(&it, 2);
    put_uint(&it, 1);
    put_text(&it, "a \"key\"");
    put_uint(&it, 1);
    put_text(&it, "cheap");
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(
        &it, order,
        "error: Order.ByName[\"a \\\"key\\\"\"].Price: the stream has a string, the class a float");

    it.bytes.len = 0;
    define_struct(&it, 70, "Order", "Items", 71, NULL);
    define_slice(&it, 71, 72);
    define_struct(&it, 72, "Item", "Price", ID_STRING, NULL);
    put_int(&it, 70);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, order, "error: Order.Items[].Price: the stream has a string, the class a float");
    check(&it, item,
          "error: Item: the struct Order of the stream and the struct Item of the class have no "
          "field in common");
    check(&it, integer, "error: int: the stream has the struct Order, the class an int");
    stream_release(&it);
}

/* Maps, arrays, slices and opaque types fit if what is in them does. */
static void
composite_types(void **state)
{
    const struct {
        gp_gob_type *type;
        const char *text;
    } cases[] = {
        {array_of(group, NULL, 2, integer), "[5, 6]"},
        {array_of(group, NULL, 3, integer),
         "error: [3]int: the stream has a [2]int, the class a [3]int"},
        {slice_of(group, NULL, integer),
         "error: []int: the stream has a [2]int, the class a []int"},
        {array_of(group, NULL, 2, string),
         "error: [2]string[0]: the stream has an int, the class a string"},
        {map_of(group, NULL, integer, integer),
         "error: map[int]int: the stream has a [2]int, the class a map[int]int"},
        {opaque_type(group, "Time", GP_GOB_ENCODER),
         "error: Time: the stream has a [2]int, the class the GobEncoder Time"},
        {any, "error: interface {}: the stream has a [2]int, the class an interface"},
    };
    stream it = STREAM_INIT;

    (void)state;
    define_array(&it, 70, ID_INT, 2);
    put_int(&it, 70);
    put_uint(&it, 0);
    put_uint(&it, 2);
    put_int(&it, 5);
    put_int(&it, 6);
    end_message(&it);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check(&it, cases[i].type, cases[i].text);
    }

    it.bytes.len = 0;
    define_opaque(&it, 70, "Addr", GP_GOB_BINARY);
    put_int(&it, 70);
    put_uint(&it, 0);
    put_text(&it, "x");
    end_message(&it);
    check(&it, opaque_type(group, "Other", GP_GOB_BINARY), "Addr<78>");
    check(&it, opaque_type(group, "Addr", GP_GOB_ENCODER),
          "error: Addr: the stream has the BinaryMarshaler Addr, the class the GobEncoder Addr");
    check(&it, NULL, "Addr<78>");

    it.bytes.len = 0;
    define_map(&it, 70, ID_INT, ID_STRING);
    put_int(&it, 70);
    put_uint(&it, 0);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, map_of(group, NULL, integer, string), "{}");
    check(&it, map_of(group, NULL, uinteger, string),
          "error: map[uint]string(key): the stream has an int, the class a uint");
    check(&it, map_of(group, NULL, integer, bytes),
          "error: map[int][]uint8[]: the stream has a string, the class bytes");
    stream_release(&it);
}

/* Values in interfaces are of the type that is registered for their name, or untyped. */
static void
interfaces(void **state)
{
    stream it = STREAM_INIT;
    gp_gob_type *holder = struct_of("Holder", "Any", any);

    (void)state;
    world.count = 0;
    register_type(&world, "Right", struct_of("Right", "X", integer));
    register_type(&world, "Wrong", struct_of("Wrong", "X", string));
    register_type(&world, "Strange", struct_of("Strange", "Z", string));
    for (size_t i = 0; i < 4; i++) {
        static const char *const names[] = {"Right", "Wrong", "Strange", "Unknown"};
        static const char *const texts[] = {
            "Holder{Any: <Right>Right{X: 5}}",
            "error: Holder.Any(Wrong).X: the stream has an int, the class a string",
            "error: Holder.Any(Strange): the struct Theirs of the stream and the struct Strange of "
            "the class have no field in common",
            "Holder{Any: <Unknown>Theirs{X: 5}}",
        };

        it.bytes.len = 0;
        define_struct(&it, 70, "Holder", "Any", ID_INTERFACE, NULL);
        define_struct(&it, 71, "Theirs", "X", ID_INT, NULL);
        put_int(&it, 70);
        put_uint(&it, 1);
        put_text(&it, names[i]);
        put_int(&it, 71);
        put_uint(&it, 3);
        put_uint(&it, 1);
        put_int(&it, 5);
        put_uint(&it, 0);
        put_uint(&it, 0);
        end_message(&it);
        check(&it, holder, texts[i]);
    }
    world.count = 0;
    stream_release(&it);
}

/* A struct whose definition has a field twice: the later value counts, and none is lost. */
static void
a_field_twice(void **state)
{
    stream it = STREAM_INIT;

    (void)state;
    define_struct(&it, 70, "Twice", "A", ID_INT, "A", ID_INT, NULL);
    put_int(&it, 70);
    put_uint(&it, 1);
    put_int(&it, 5);
    put_uint(&it, 1);
    put_int(&it, 6);
    put_uint(&it, 0);
    end_message(&it);
    check(&it, struct_of("Once", "A", integer), "Once{A: 6}");
    check(&it, NULL, "Twice{A: 5, A: 6}");
    stream_release(&it);
}

/* A decoder goes on after a message that does not fit, and knows a pair of types afterwards. */
static void
after_a_mismatch(void **state)
{
    stream it = STREAM_INIT;
    gp_gob_type *wrong = struct_of("Wrong", "A", string);
    gp_gob_type *right = struct_of("Right", "A", int8);
    gp_gob_decoder *decoder;
    gp_gob_message message;
    void *value;

    (void)state;
    put_one(&it, ID_INT, 10, NULL);
    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    for (int i = 0; i < 3; i++) {
        gp_error err = GP_ERROR_INIT;

        assert_int_equal(gp_gob_decoder_feed(decoder, it.bytes.data, it.bytes.len, NULL), 0);
        assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 1);
        assert_int_equal(gp_gob_decode(decoder, &message, wrong, &node_sink, &world, &value, &err),
                         GP_EGOB);
        assert_int_equal(err.number, 0);
        gp_error_release(&err);
        assert_int_equal(gp_gob_decode(decoder, &message, right, &node_sink, &world, &value, &err),
                         0);
        assert_string_equal(node_text(value), "Right{A: 5}");
        node_free(&world, value);
        gp_gob_message_release(&message);
        /* The definition came with the first message only. */
        it.bytes.len = 0;
        put_int(&it, 70);
        put_uint(&it, 1);
        put_int(&it, 5);
        put_uint(&it, 0);
        end_message(&it);
    }
    gp_gob_decoder_unref(decoder);
    stream_release(&it);
}

static void
types_that_cannot_be(void **state)
{
    gp_gob_type *type;
    gp_gob_type *twice = struct_type(group, "Twice");
    gp_gob_type *incomplete = struct_type(group, "Incomplete");
    gp_gob_output *output;
    gp_error err = GP_ERROR_INIT;
    node value = {.kind = GP_GOB_STRUCT};

    (void)state;
    assert_int_equal(
        gp_gob_type_new(&type, group, &(gp_gob_type_spec){.kind = GP_GOB_INT, .bits = 7}, &err),
        GP_EINVAL);
    assert_int_equal(gp_gob_type_new(&type, group, &(gp_gob_type_spec){.kind = GP_GOB_SLICE}, &err),
                     GP_EINVAL);
    assert_int_equal(
        gp_gob_type_new(&type, group,
                        &(gp_gob_type_spec){.kind = GP_GOB_SLICE,
                                            .element = simple_type(group, GP_GOB_UINT, 8)},
                        &err),
        GP_EINVAL);
    assert_int_equal(
        gp_gob_type_set_fields(
            twice, (const gp_gob_field[]){{"A", integer}, {"B", integer}, {"A", string}}, 3, &err),
        GP_EINVAL);
    assert_string_equal(gp_error_message(&err), "Twice has two fields with the name A");
    assert_int_equal(gp_gob_type_set_fields(integer, NULL, 0, &err), GP_EINVAL);

    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_encode(output, slice_of(group, NULL, incomplete), &node_source, &world,
                                   &value, &err),
                     GP_EINVAL);
    assert_string_equal(gp_error_message(&err),
                        "the struct Incomplete has not been given its fields");
    gp_gob_output_free(output);
    gp_error_release(&err);
}

/* A group keeps those of the types that its own refer to. */
static void
groups(void **state)
{
    gp_gob_group *first;
    gp_gob_group *second;
    gp_gob_type *inner;
    gp_gob_type *outer;

    (void)state;
    assert_int_equal(gp_gob_group_new(&first, NULL), 0);
    assert_int_equal(gp_gob_group_new(&second, NULL), 0);
    inner = struct_type(first, "Inner");
    set_fields(inner, "Self", slice_of(first, NULL, inner), NULL);
    outer = struct_type(second, "Outer");
    set_fields(outer, "A", inner, "B", slice_of(second, NULL, inner), NULL);
    gp_gob_group_unref(first);
    gp_gob_type_ref(outer);
    gp_gob_group_unref(second);
    assert_string_equal(gp_gob_type_name(gp_gob_type_field(outer, 0)), "Inner");
    gp_gob_type_unref(outer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic_types_do_not_mix), cmocka_unit_test(ranges),
        cmocka_unit_test(complex_ranges),         cmocka_unit_test(fields_by_name),
        cmocka_unit_test(nothing_in_common),      cmocka_unit_test(paths),
        cmocka_unit_test(composite_types),        cmocka_unit_test(interfaces),
        cmocka_unit_test(a_field_twice),          cmocka_unit_test(after_a_mismatch),
        cmocka_unit_test(types_that_cannot_be),   cmocka_unit_test(groups),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
