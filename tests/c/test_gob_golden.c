/* Streams that Go's encoding/gob has written, by a program whose first type has id 65, as here. */
#include <string.h>

#include "gob_fixture.h"
#include "support.h"

/* Everything here has been encoded by Go in this order. */
static const struct {
    const char *type;
    const char *stream;
    const char *values[5]; /* in the notation of nodes */
} streams[] = {
    {"Point",
     "1fff8103010105506f696e7401ff82000102010158010400010159010400000007ff82012c014200"
     "03ff820005ff82020100",
     {"Point{X: 22, Y: 33}", "Point{}", "Point{Y: -1}"}},
    {"bool", "0302000103020000", {"true", "false"}},
    {"int",
     "03040000050400fe01010b0400f8fffffffffffffffe0b0400f8ffffffffffffffff",
     {"0", "-129", "9223372036854775807", "-9223372036854775808"}},
    {"uint",
     "03060000050600fe01000b0600f8ffffffffffffffff",
     {"0u", "256u", "18446744073709551615u"}},
    {"float", "03080000050800fe3140050800fee0bf050800fef07f", {"0", "17", "-0.5", "inf"}},
    {"complex", "070e00fef03fffc0040e000000", {"(1,-2)", "(0,0)"}},
    {"string", "030c0000070c000474657874", {"\"\"", "\"text\""}},
    {"bytes", "030a0000080a00056279746573", {"x''", "x'6279746573'"}},
    {"strings",
     "0cff83020102ff8400010c000009ff840003016100016304ff840000",
     {"[\"a\", \"\", \"c\"]", "[]"}},
    {"array", "0eff85010102ff860001040106000007ff860003020001", {"[1, 0, -1]"}},
    {"map", "0eff87040102ff8800010c0104000009ff880001036f6e650204ff880000", {"{\"one\": 1}", "{}"}},
    {"points",
     "0dff89020102ff8a0001ff8200001fff8103010105506f696e7401ff820001020101580104000101"
     "5901040000000aff8a0002010201040000",
     {"[Point{X: 1, Y: 2}, Point{}]"}},
    {"Nothing", "13ff8b030101074e6f7468696e6701ff8c00000003ff8c00", {"Nothing{}"}},
    {"Scalars",
     "ffcbff8d030101075363616c61727301ff8e0001110104426f6f6c0102000103496e740104000104"
     "496e74380104000105496e7431360104000105496e7433320104000105496e743634010400010455"
     "696e74010600010555696e7438010600010655696e743136010600010655696e7433320106000106"
     "55696e7436340106000107466c6f617433320108000107466c6f617436340108000109436f6d706c"
     "65783634010e00010a436f6d706c6578313238010e000106537472696e67010c0001054279746573"
     "010a00000003ff8e005dff8e0101010101ffff01feffff01fcffffffff01f8ffffffffffffffff01"
     "0101ffff01feffff01fcffffffff01f8ffffffffffffffff01fef83f01f89a9999999999b9bf01fe"
     "f03fffc001fef07ffee0bf010474657874010300ff0a00",
     {"Scalars{}",
      "Scalars{Bool: true, Int: -1, Int8: -128, Int16: -32768, Int32: -2147483648, "
      "Int64: -9223372036854775808, Uint: 1u, Uint8: 255u, Uint16: 65535u, Uint32: "
      "4294967295u, Uint64: 18446744073709551615u, Float32: 1.5, Float64: -0.1, "
      "Complex64: (1,-2), Complex128: (inf,-0.5), String: \"text\", Bytes: x'00ff0a'}"}},
    {"Tree",
     "29ff8f030101045472656501ff9000010201044e616d65010c0001084368696c6472656e01ff9200"
     "00001bff910201010c5b5d2a6d61696e2e5472656501ff920001ff90000003ff900024ff90010472"
     "6f6f74010201046c6561660001066272616e63680101010474776967000000",
     {"Tree{}", "Tree{Name: \"root\", Children: [Tree{Name: \"leaf\"}, Tree{Name: \"branch\", "
                "Children: [Tree{Name: \"twig\"}]}]}"}},
    {"Chain",
     "27ff9303010105436861696e01ff94000102010556616c756501040001044e65787401ff94000000"
     "0bff94010201010401000000",
     {"Chain{Value: 1, Next: Chain{Value: 2, Next: Chain{}}}"}},
    {"Time",
     "10ff950501010454696d6501ff9600000013ff96000f010000000edd7270f0075bcd15ffff13ff96"
     "000f01000000000000000000000000ffff",
     {"Time<010000000edd7270f0075bcd15ffff>", "Time<01000000000000000000000000ffff>"}},
    {"Nested",
     "ffc6ff97030101064e657374656401ff980001100105506f696e7401ff82000105417272617901ff"
     "860001044772696401ff9c000107537472696e677301ff84000106506f696e747301ff8a00010653"
     "6c6963657301ffa000010642794e616d6501ff880001074279506f696e7401ffa20001054c697374"
     "7301ffa4000107506f696e74657201ff820001045472656501ff90000105436861696e01ff940001"
     "045768656e01ff96000103416e790110000104416e797301ffa6000105456d70747901ffa8000000"
     "1fff8103010105506f696e7401ff8200010201015801040001015901040000000eff85010102ff86"
     "000104010600001eff9b0101010d5b325d5b325d666c6f6174333201ff9c0001ff9a010400000eff"
     "99010102ff9a000108010400000cff83020102ff8400010c00000dff89020102ff8a0001ff820000"
     "16ff9f020101075b5d5b5d696e7401ffa00001ff9e00000cff9d020102ff9e00010400000eff8704"
     "0102ff8800010c0104000026ffa1040101156d61705b6d61696e2e506f696e745d737472696e6701"
     "ffa20001ff82010c000028ffa3040101176d61705b737472696e675d5b5d6d61696e2e506f696e74"
     "01ffa400010c01ff8a000029ff8f030101045472656501ff9000010201044e616d65010c00010843"
     "68696c6472656e01ff920000001bff910201010c5b5d2a6d61696e2e5472656501ff920001ff9000"
     "0027ff9303010105436861696e01ff94000102010556616c756501040001044e65787401ff940000"
     "0010ff950501010454696d6501ff960000001cffa50201010e5b5d696e74657266616365207b7d01"
     "ffa6000110000015ffa703010109737472756374207b7d01ffa800000016ff980100010300000001"
     "020200000200000800050000ffc1ff980101020104000103020001010202fef03f4002fe0840fe10"
     "400102016100010201020104000001030102000204060101036f6e65020101010a010c0004686572"
     "650101046c69737401010e011000010112011400010104726f6f74010101046c6561660000010102"
     "0101040000010f010000000edd7270f0075bcd15ffff010a6d61696e2e506f696e74ff8205011a01"
     "1c00010403696e740402000206737472696e670c05000374776f000a6d61696e2e506f696e74ff82"
     "03010200010000",
     {"Nested{Point: Point{}, Array: [0, 0, 0], Grid: [[0, 0], [0, 0]], Tree: Tree{}, "
      "Empty: struct {}{}}",
      "Nested{Point: Point{X: 1, Y: 2}, Array: [1, 0, -1], Grid: [[1, 2], [3, 4]], "
      "Strings: [\"a\", \"\"], Points: [Point{X: 1, Y: 2}, Point{}], Slices: [[1], [], "
      "[2, 3]], ByName: {\"one\": 1}, ByPoint: {Point{X: 5, Y: 6}: \"here\"}, Lists: "
      "{\"list\": [Point{X: 7, Y: 8}]}, Pointer: Point{X: 9, Y: 10}, Tree: Tree{Name: "
      "\"root\", Children: [Tree{Name: \"leaf\"}]}, Chain: Chain{Value: 1, Next: "
      "Chain{Value: 2}}, When: Time<010000000edd7270f0075bcd15ffff>, Any: "
      "<main.Point>Point{X: 13, Y: 14}, Anys: [<int>1, <string>\"two\", nil, "
      "<main.Point>Point{X: 1}], Empty: struct {}{}}"}},
    {"Any",
     "1cffa50201010e5b5d696e74657266616365207b7d01ffa6000110000022ffa6000203696e740402"
     "000203416e79ffa60f000206737472696e670c030001780004ffa60000",
     {"[<int>1, <Any>[<string>\"x\", nil]]", "[]"}},
};

enum { COUNT = sizeof(streams) / sizeof(streams[0]) };

typedef struct fixture {
    gp_gob_group *group;
    gp_gob_type *types[COUNT]; /* borrowed from the group */
    node_world world;
} fixture;

static void
make_types(fixture *it)
{
    gp_gob_group *group = it->group;
    gp_gob_type *boolean = simple_type(group, GP_GOB_BOOL, 0);
    gp_gob_type *ints[4];
    gp_gob_type *uints[4];
    gp_gob_type *integer;
    gp_gob_type *floating = simple_type(group, GP_GOB_FLOAT, 64);
    gp_gob_type *float32 = simple_type(group, GP_GOB_FLOAT, 32);
    gp_gob_type *complex64 = simple_type(group, GP_GOB_COMPLEX, 32);
    gp_gob_type *complex128 = simple_type(group, GP_GOB_COMPLEX, 64);
    gp_gob_type *bytes = simple_type(group, GP_GOB_BYTES, 0);
    gp_gob_type *string = simple_type(group, GP_GOB_STRING, 0);
    gp_gob_type *any = simple_type(group, GP_GOB_INTERFACE, 0);
    gp_gob_type *strings = slice_of(group, NULL, string);
    gp_gob_type *anys = slice_of(group, NULL, any);
    gp_gob_type *time = opaque_type(group, "Time", GP_GOB_ENCODER);
    gp_gob_type *point = struct_type(group, "Point");
    gp_gob_type *points = slice_of(group, NULL, point);
    gp_gob_type *scalars = struct_type(group, "Scalars");
    gp_gob_type *tree = struct_type(group, "Tree");
    gp_gob_type *chain = struct_type(group, "Chain");
    gp_gob_type *nothing = struct_type(group, "Nothing");
    gp_gob_type *unnamed = struct_type(group, "struct {}");
    gp_gob_type *nested = struct_type(group, "Nested");
    gp_gob_type *array;
    gp_gob_type *by_name;

    for (int i = 0; i < 4; i++) {
        ints[i] = simple_type(group, GP_GOB_INT, 8 << i);
        uints[i] = simple_type(group, GP_GOB_UINT, 8 << i);
    }
    integer = ints[3];
    array = array_of(group, NULL, 3, ints[2]);
    by_name = map_of(group, NULL, string, integer);
    set_fields(point, "X", integer, "Y", integer, NULL);
    set_fields(scalars, "Bool", boolean, "Int", integer, "Int8", ints[0], "Int16", ints[1], "Int32",
               ints[2], "Int64", ints[3], "Uint", uints[3], "Uint8", uints[0], "Uint16", uints[1],
               "Uint32", uints[2], "Uint64", uints[3], "Float32", float32, "Float64", floating,
               "Complex64", complex64, "Complex128", complex128, "String", string, "Bytes", bytes,
               NULL);
    set_fields(tree, "Name", string, "Children", slice_of(group, "[]*main.Tree", tree), NULL);
    set_fields(chain, "Value", integer, "Next", chain, NULL);
    set_fields(nothing, NULL);
    set_fields(unnamed, NULL);
    set_fields(nested, "Point", point, "Array", array, "Grid",
               array_of(group, NULL, 2, array_of(group, NULL, 2, float32)), "Strings", strings,
               "Points", points, "Slices", slice_of(group, NULL, slice_of(group, NULL, integer)),
               "ByName", by_name, "ByPoint", map_of(group, "map[main.Point]string", point, string),
               "Lists", map_of(group, "map[string][]main.Point", string, points), "Pointer", point,
               "Tree", tree, "Chain", chain, "When", time, "Any", any, "Anys", anys, "Empty",
               unnamed, NULL);
    memcpy(it->types,
           ((gp_gob_type *[COUNT]){point, boolean, integer, uints[3], floating, complex128, string,
                                   bytes, strings, array, by_name, points, nothing, scalars, tree,
                                   chain, time, nested, anys}),
           sizeof(it->types));
    register_type(&it->world, "int", integer);
    register_type(&it->world, "string", string);
    register_type(&it->world, "main.Point", point);
    register_type(&it->world, "Any", anys);
}

static int
set_up(void **state)
{
    static fixture it;

    assert_int_equal(gp_gob_group_new(&it.group, NULL), 0);
    make_types(&it);
    *state = &it;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *it = *state;

    gp_gob_group_unref(it->group);
    assert_int_equal(it->world.opened, 0);
    assert_int_equal(it->world.made, 0);
    return 0;
}

/* Each value is decoded and encoded again. The bytes are Go's, to the last one. */
static void
there_and_back(void **state)
{
    static unsigned char stream[4096];
    fixture *it = *state;
    gp_gob_output *output;

    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    for (size_t i = 0; i < COUNT; i++) {
        gp_gob_decoder *decoder;
        gp_gob_encoder *encoder;
        gp_gob_message message;
        size_t len;
        const unsigned char *bytes = from_hex(streams[i].stream, &len);
        size_t compared = 0;

        assert_true(len <= sizeof(stream));
        memcpy(stream, bytes, len);
        assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
        assert_int_equal(gp_gob_encoder_new(&encoder, NULL), 0);
        assert_int_equal(gp_gob_decoder_feed(decoder, stream, len, NULL), 0);
        for (size_t j = 0; streams[i].values[j] != NULL; j++) {
            void *value;
            gp_gob_part parts[2];

            assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 1);
            assert_int_equal(gp_gob_decode(decoder, &message, it->types[i], &node_sink, &it->world,
                                           &value, NULL),
                             0);
            assert_string_equal(node_text(value), streams[i].values[j]);
            assert_int_equal(
                gp_gob_encode(output, it->types[i], &node_source, &it->world, value, NULL), 0);
            assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
            gp_gob_output_parts(output, parts);
            for (size_t k = 0; k < 2; k++) {
                assert_true(parts[k].len <= len - compared);
                assert_memory_equal(parts[k].bytes, stream + compared, parts[k].len);
                compared += parts[k].len;
            }
            node_free(&it->world, value);
            gp_gob_message_release(&message);
        }
        assert_int_equal(compared, len);
        assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 0);
        assert_true(gp_gob_decoder_at_end(decoder));
        gp_gob_encoder_free(encoder);
        gp_gob_decoder_unref(decoder);
    }
    gp_gob_output_free(output);
}

/* The same without the program's types. */
static void
untyped(void **state)
{
    fixture *it = *state;

    for (size_t i = 0; i < COUNT; i++) {
        size_t len;
        const unsigned char *bytes = from_hex(streams[i].stream, &len);

        assert_string_equal(decoded(&it->world, bytes, len, NULL), streams[i].values[0]);
    }
}

/* Types that are new in interface values, at two depths: the messages are split by definitions. */
static const struct {
    const char *stream;
    const char *values[3];
} splits[] = {
    {"33ffa903010106486f6c64657201ffaa00010301064265666f7265010c00010556616c7565011000"
     "01054166746572010c00000031ffaa010161010b6d61696e2e436972636c65ffab03010106436972"
     "636c6501ffac000101010652616469757301080000000cffac0501fef83f00010162001cffaa0101"
     "63010b6d61696e2e436972636c65ffac0301400001016400",
     {"Holder{Before: \"a\", Value: <main.Circle>Circle{Radius: 1.5}, After: \"b\"}",
      "Holder{Before: \"c\", Value: <main.Circle>Circle{Radius: 2}, After: \"d\"}"}},
    {"33ffa903010106486f6c64657201ffaa00010301064265666f7265010c00010556616c7565011000"
     "01054166746572010c00000048ffaa01016101086d61696e2e426f78ffad03010103426f7801ffae"
     "00010401044e616d65010c00010653686170657301ffb2000105496e6e657201100001044c617374"
     "01040000001bffb10201010c5b5d6d61696e2e536861706501ffb20001ffb0000019ffaf03010105"
     "536861706501ffb000010101014e010400000066ffae2f010178010101060001166d61705b737472"
     "696e675d6d61696e2e436972636c65ffb3040102ffb400010c01ffac00001fffab03010106436972"
     "636c6501ffac000101010652616469757301080000000fffb4090001016b01fe104000010a000101"
     "6200",
     {"Holder{Before: \"a\", Value: <main.Box>Box{Name: \"x\", Shapes: [Shape{N: 3}], "
      "Inner: <map[string]main.Circle>{\"k\": Circle{Radius: 4}}, Last: 5}, After: \"b\"}"}},
    {"1cffa50201010e5b5d696e74657266616365207b7d01ffa6000110000037ffa6000503696e740402"
     "00020b6d61696e2e436972636c65ffab03010106436972636c6501ffac0001010106526164697573"
     "01080000004bffac0501fef03f0000086d61696e2e426f78ffad03010103426f7801ffae00010401"
     "044e616d65010c00010653686170657301ffb2000105496e6e657201100001044c61737401040000"
     "001bffb10201010c5b5d6d61696e2e536861706501ffb20001ffb0000019ffaf0301010553686170"
     "6501ffb000010101014e010400000012ffae010006737472696e670c050003656e64",
     {"[<int>1, <main.Circle>Circle{Radius: 1}, nil, <main.Box>Box{}, "
      "<string>\"end\"]"}},
};

/* However the bytes come. */
static void
split_messages(void **state)
{
    fixture *it = *state;

    for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
        for (size_t piece = 1; piece < 40; piece += piece < 4 ? 1 : 7) {
            gp_gob_decoder *decoder;
            gp_gob_message message;
            size_t len;
            const unsigned char *bytes = from_hex(splits[i].stream, &len);
            size_t found = 0;

            assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
            for (size_t at = 0; at < len; at += piece) {
                size_t some = len - at < piece ? len - at : piece;

                assert_int_equal(gp_gob_decoder_feed(decoder, bytes + at, some, NULL), 0);
                while (gp_gob_decoder_next(decoder, &message, NULL) == 1) {
                    void *value;

                    assert_int_equal(gp_gob_decode(decoder, &message, NULL, &node_sink, &it->world,
                                                   &value, NULL),
                                     0);
                    assert_string_equal(node_text(value), splits[i].values[found++]);
                    node_free(&it->world, value);
                    gp_gob_message_release(&message);
                }
                bytes = from_hex(splits[i].stream, &len);
            }
            assert_null(splits[i].values[found]);
            assert_true(gp_gob_decoder_at_end(decoder));
            gp_gob_decoder_unref(decoder);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), /* first: ids count from there */
        cmocka_unit_test(untyped),
        cmocka_unit_test(split_messages),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
