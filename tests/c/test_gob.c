/* Encoders and decoders that share types and are short of memory, and values that fail. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "gob/decoder.h"
#include "gob/output.h"
#include "gob_fixture.h"
#include "gob_stream.h"
#include "support.h"

/* Values of many kinds, in a struct that contains itself. */
typedef struct kinds {
    gp_gob_group *group;
    gp_gob_type *order; /* borrowed, as the others */
    gp_gob_type *anys;
    node_world world;
} kinds;

static int
make_kinds(kinds *it, gp_error *err)
{
    const gp_gob_type_spec specs[] = {
        {.kind = GP_GOB_INT},
        {.kind = GP_GOB_STRING},
        {.kind = GP_GOB_BYTES},
        {.kind = GP_GOB_COMPLEX},
        {.kind = GP_GOB_BOOL},
        {.kind = GP_GOB_UINT, .bits = 8},
        {.kind = GP_GOB_FLOAT},
        {.kind = GP_GOB_INTERFACE},
        {.kind = GP_GOB_OPAQUE, .name = "Time"},
        {.kind = GP_GOB_STRUCT, .name = "Order"},
    };
    enum { SPECS = sizeof(specs) / sizeof(specs[0]) };
    gp_gob_type *types[SPECS];
    gp_gob_type *list;
    gp_gob_type *map;
    gp_gob_type *array;
    int rc;

    it->group = NULL;
    rc = gp_gob_group_new(&it->group, err);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < SPECS && rc == 0; i++) {
        rc = gp_gob_type_new(&types[i], it->group, &specs[i], err);
    }
    if (rc == 0) {
        rc = gp_gob_type_new(&list, it->group,
                             &(gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = types[SPECS - 1]},
                             err);
    }
    if (rc == 0) {
        rc = gp_gob_type_new(
            &map, it->group,
            &(gp_gob_type_spec){.kind = GP_GOB_MAP, .key = types[1], .element = list}, err);
    }
    if (rc == 0) {
        rc = gp_gob_type_new(
            &array, it->group,
            &(gp_gob_type_spec){.kind = GP_GOB_ARRAY, .element = types[5], .length = 2}, err);
    }
    if (rc == 0) {
        rc = gp_gob_type_new(&it->anys, it->group,
                             &(gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = types[7]}, err);
    }
    if (rc == 0) {
        const gp_gob_field fields[] = {
            {"ID", types[0]},   {"Name", types[1]}, {"Key", types[2]},   {"Ratio", types[3]},
            {"Paid", types[4]}, {"Grid", array},    {"Total", types[6]}, {"Any", types[7]},
            {"When", types[8]}, {"Parts", list},    {"Index", map},      {"Next", types[9]},
            {"Anys", it->anys},
        };

        it->order = types[9];
        rc = gp_gob_type_set_fields(it->order, fields, sizeof(fields) / sizeof(fields[0]), err);
    }
    if (rc < 0) {
        gp_gob_group_unref(it->group);
        it->group = NULL;
        return rc;
    }
    memset(&it->world, 0, sizeof(it->world));
    register_type(&it->world, "Order", it->order);
    register_type(&it->world, "Anys", it->anys);
    return 0;
}

/* An Order of a stream in which it has id 70. */
static void
put_order(stream *it, int depth)
{
    put_uint(it, 1);
    put_int(it, 5);
    put_uint(it, 1);
    put_text(it, "name");
    put_uint(it, 1);
    put_text(it, "key");
    put_uint(it, 1);
    put_uint(it, 0x3140);
    put_uint(it, 0xf03f);
    put_uint(it, 1);
    put_uint(it, 1);
    put_uint(it, 1);
    put_uint(it, 2);
    put_uint(it, 7);
    put_uint(it, 8);
    put_uint(it, 1);
    put_uint(it, 0x3140);
    if (depth > 0) {
        put_uint(it, 1); /* Any */
        put_text(it, "Order");
        put_int(it, 70);
        put_uint(it, 1);
        put_order(it, 0);
        put_uint(it, 1); /* When */
        put_text(it, "opaque");
        put_uint(it, 1); /* Parts */
        put_uint(it, 2);
        put_order(it, 0);
        put_order(it, 0);
        put_uint(it, 1); /* Index */
        put_uint(it, 1);
        put_text(it, "key");
        put_uint(it, 1);
        put_order(it, 0);
        put_uint(it, 1); /* Next */
        put_order(it, depth - 1);
        put_uint(it, 1); /* Anys */
        put_uint(it, 3);
        put_text(it, "Order");
        put_int(it, 70);
        put_uint(it, 1);
        put_order(it, 0);
        put_uint(it, 0); /* nil */
        put_text(it, "Anys");
        put_int(it, 75);
        put_uint(it, 2);
        put_uint(it, 0);
        put_uint(it, 0);
    }
    put_uint(it, 0);
}

static void
put_order_message(stream *it, int depth)
{
    put_int(it, 70);
    put_order(it, depth);
    end_message(it);
}

static void
put_order_stream(stream *it)
{
    define_struct(it, 70, "Order", "ID", ID_INT, "Name", ID_STRING, "Key", ID_BYTES, "Ratio",
                  ID_COMPLEX, "Paid", ID_BOOL, "Grid", 71, "Total", ID_FLOAT, "Any", ID_INTERFACE,
                  "When", 72, "Parts", 73, "Index", 74, "Next", 70, "Anys", 75, NULL);
    define_array(it, 71, ID_UINT, 2);
    define_opaque(it, 72, "Time", GP_GOB_ENCODER);
    define_slice(it, 73, 70);
    define_map(it, 74, ID_STRING, 73);
    define_slice(it, 75, ID_INTERFACE);
    put_order_message(it, 5);
}

/* Decode the first value of the stream, into the type or untyped. */
static int
decode_one(kinds *it, const stream *bytes, const gp_gob_type *type, void **value, gp_error *err)
{
    gp_gob_decoder *decoder;
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    int rc = gp_gob_decoder_new(&decoder, NULL, err);

    if (rc < 0) {
        return rc;
    }
    rc = gp_gob_decoder_feed(decoder, bytes->bytes.data, bytes->bytes.len, err);
    if (rc == 0) {
        rc = gp_gob_decoder_next(decoder, &message, err);
        assert_int_not_equal(rc, 0);
    }
    if (rc > 0) {
        rc = gp_gob_decode(decoder, &message, type, &node_sink, &it->world, value, err);
    }
    gp_gob_message_release(&message);
    gp_gob_decoder_unref(decoder);
    return rc;
}

/* An untyped value has names of the decoder, which is gone, so only freeing it is left. */
static int
decode_and_free(kinds *it, const stream *bytes, const gp_gob_type *type, gp_error *err)
{
    void *value;
    int rc = decode_one(it, bytes, type, &value, err);

    if (rc == 0) {
        node_free(&it->world, value);
    }
    return rc;
}

/* Encode an Order with new types, and commit that to a new stream. */
static int
encode_all(kinds *it, node *value, gp_error *err)
{
    gp_gob_output *output = NULL;
    gp_gob_encoder *encoder = NULL;
    int rc = gp_gob_output_new(&output, err);

    if (rc == 0) {
        rc = gp_gob_encoder_new(&encoder, err);
    }
    if (rc == 0) {
        rc = gp_gob_encode(output, it->order, &node_source, &it->world, value, err);
    }
    if (rc == 0) {
        rc = gp_gob_encoder_commit(encoder, output, err);
    }
    gp_gob_encoder_free(encoder);
    gp_gob_output_free(output);
    return rc;
}

/* ---- Memory ---- */

static void
each_allocation_fails_decoding(void **state)
{
    stream bytes = STREAM_INIT;
    kinds it;

    (void)state;
    put_order_stream(&bytes);
    assert_int_equal(make_kinds(&it, NULL), 0);
    for (int typed = 0; typed < 2; typed++) {
        long total = 1;

        for (long failing = 0; failing < total; failing++) {
            gp_error err = GP_ERROR_INIT;
            int rc;

            alloc_begin(failing);
            rc = decode_and_free(&it, &bytes, typed ? it.order : NULL, &err);
            gp_error_release(&err);
            total = alloc_failures() > 0 ? failing + 2 : 0;
            alloc_end();
            assert_int_equal(it.world.made, 0);
            assert_int_equal(rc, total > 0 ? GP_ENOMEM : 0);
        }
    }
    gp_gob_group_unref(it.group);
    stream_release(&bytes);
}

/*
 * Making the types and decoding what is encoded are part of it, since definitions stay with types.
 */
static void
each_allocation_fails_encoding(void **state)
{
    stream bytes = STREAM_INIT;
    long total = 1;

    (void)state;
    put_order_stream(&bytes);
    for (long failing = 0; failing < total; failing++) {
        gp_error err = GP_ERROR_INIT;
        void *value = NULL;
        kinds it;
        int rc;

        alloc_begin(failing);
        rc = make_kinds(&it, &err);
        if (rc == 0) {
            rc = decode_one(&it, &bytes, it.order, &value, &err);
        }
        if (rc == 0) {
            rc = encode_all(&it, value, &err);
            assert_int_equal(it.world.opened, 0);
            node_free(&it.world, value);
        }
        total = alloc_failures() > 0 ? failing + 2 : 0;
        assert_int_equal(rc, total > 0 ? GP_ENOMEM : 0);
        gp_gob_group_unref(it.group);
        gp_error_release(&err);
        alloc_end();
    }
    stream_release(&bytes);
}

static void
each_allocation_fails_making_types(void **state)
{
    long total = 1;

    (void)state;
    for (long failing = 0; failing < total; failing++) {
        gp_error err = GP_ERROR_INIT;
        kinds it;
        int rc;

        alloc_begin(failing);
        rc = make_kinds(&it, &err);
        total = alloc_failures() > 0 ? failing + 2 : 0;
        assert_int_equal(rc, total > 0 ? GP_ENOMEM : 0);
        gp_gob_group_unref(it.group);
        gp_error_release(&err);
        alloc_end();
    }
}

/* ---- Sources and sinks ---- */

static void
each_call_of_a_sink_fails(void **state)
{
    stream bytes = STREAM_INIT;
    kinds it;

    (void)state;
    put_order_stream(&bytes);
    assert_int_equal(make_kinds(&it, NULL), 0);
    for (int typed = 0; typed < 2; typed++) {
        int rc = GP_EUSER;

        for (it.world.fail_after = 1; rc != 0; it.world.fail_after++) {
            gp_error err = GP_ERROR_INIT;

            it.world.calls = 0;
            rc = decode_and_free(&it, &bytes, typed ? it.order : NULL, &err);
            assert_true(rc == 0 || rc == GP_EUSER);
            if (rc < 0) {
                assert_int_equal(strncmp(gp_error_message(&err), "Order", 5), 0);
            }
            gp_error_release(&err);
            assert_int_equal(it.world.made, 0);
        }
        it.world.fail_after = 0;
    }
    gp_gob_group_unref(it.group);
    stream_release(&bytes);
}

static void
each_call_of_a_source_fails(void **state)
{
    stream bytes = STREAM_INIT;
    kinds it;
    void *value;
    int rc = GP_EUSER;

    (void)state;
    put_order_stream(&bytes);
    assert_int_equal(make_kinds(&it, NULL), 0);
    assert_int_equal(decode_one(&it, &bytes, it.order, &value, NULL), 0);
    for (it.world.fail_after = 1; rc != 0; it.world.fail_after++) {
        gp_error err = GP_ERROR_INIT;

        it.world.calls = 0;
        rc = encode_all(&it, value, &err);
        assert_true(rc == 0 || rc == GP_EUSER);
        if (rc < 0) {
            assert_int_equal(strncmp(gp_error_message(&err), "Order", 5), 0);
        }
        gp_error_release(&err);
        assert_int_equal(it.world.opened, 0);
    }
    node_free(&it.world, value);
    gp_gob_group_unref(it.group);
    stream_release(&bytes);
}

/* ---- Values that cannot be sent ---- */

static void
check_refused(kinds *it, const gp_gob_type *type, node *value, const char *text)
{
    gp_gob_output *output;
    gp_gob_part parts[2];
    gp_error err = GP_ERROR_INIT;

    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_encode(output, type, &node_source, &it->world, value, &err), GP_EGOB);
    assert_int_equal(err.number, 0);
    assert_string_equal(gp_error_message(&err), text);
    gp_gob_output_parts(output, parts);
    assert_int_equal(parts[0].len, 0);
    assert_int_equal(parts[1].len, 0);
    assert_int_equal(it->world.opened, 0);
    gp_error_release(&err);
    gp_gob_output_free(output);
}

static void
values_that_cannot_be_sent(void **state)
{
    kinds it;
    gp_gob_type *small;
    gp_gob_type *float32;
    node big = {.kind = GP_GOB_UINT, .number = 256};
    node huge = {.kind = GP_GOB_FLOAT, .real = {1e300, 0}};
    node *one = &big;
    node *none = NULL;
    node ok = {.kind = GP_GOB_UINT, .number = 255};
    node *pair[] = {&ok, &big};
    node array = {.kind = GP_GOB_ARRAY, .items = pair, .count = 2};
    node short_array = {.kind = GP_GOB_ARRAY, .items = pair, .count = 1};
    node list = {.kind = GP_GOB_SLICE, .items = &none, .count = 1};
    node text = {.kind = GP_GOB_STRING, .bytes = (unsigned char *)"key", .len = 3};
    node *entry[] = {&text, &list};
    node map = {.kind = GP_GOB_MAP, .items = entry, .count = 2};
    node interface = {.kind = GP_GOB_INTERFACE,
                      .bytes = (unsigned char *)"T",
                      .len = 1,
                      .items = &one,
                      .count = 1};
    node *fields[13] = {NULL};
    node order = {.kind = GP_GOB_STRUCT, .items = fields, .count = 13};

    (void)state;
    assert_int_equal(make_kinds(&it, NULL), 0);
    small = simple_type(it.group, GP_GOB_INT, 8);
    float32 = simple_type(it.group, GP_GOB_FLOAT, 32);
    check_refused(&it, small, &big, "int8: the number does not fit into an int8");
    check_refused(&it, float32, &huge, "float32: the number does not fit into a float32");
    check_refused(&it, it.order, NULL,
                  "Order: expected the struct Order, found nothing, which gob cannot send here");

    fields[5] = &array;
    check_refused(&it, it.order, &order, "Order.Grid[1]: the number does not fit into a uint8");
    fields[5] = &short_array;
    check_refused(&it, it.order, &order, "Order.Grid: expected a [2]uint8, found 1 elements");
    fields[5] = NULL;
    fields[10] = &map;
    check_refused(&it, it.order, &order,
                  "Order.Index[\"key\"][0]: expected the struct Order, found nothing, which gob "
                  "cannot send here");
    fields[10] = NULL;
    interface.held = small;
    fields[7] = &interface;
    check_refused(&it, it.order, &order, "Order.Any(T): the number does not fit into an int8");
    fields[7] = NULL;

    /* An Order that contains itself. */
    {
        gp_gob_output *output;
        gp_error err = GP_ERROR_INIT;

        fields[11] = &order;
        assert_int_equal(gp_gob_output_new(&output, NULL), 0);
        assert_int_equal(gp_gob_encode(output, it.order, &node_source, &it.world, &order, &err),
                         GP_EGOB);
        assert_non_null(
            strstr(gp_error_message(&err), "nested more than 10000 deep, or contain themselves"));
        assert_int_equal(it.world.opened, 0);
        gp_error_release(&err);
        gp_gob_output_free(output);
    }
    gp_gob_group_unref(it.group);
}

/* ---- Streams ---- */

/* An output fits several streams. Each gets the definitions that it lacks, and none twice. */
static void
several_streams(void **state)
{
    kinds it;
    gp_gob_encoder *encoders[2];
    gp_gob_output *output;
    gp_gob_part parts[2];
    size_t definitions;
    node *none = NULL;
    node list = {.kind = GP_GOB_SLICE, .items = &none, .count = 1};
    node *fields[13] = {NULL};
    node order = {.kind = GP_GOB_STRUCT, .items = fields, .count = 13};
    node *held = &order;
    node any = {.kind = GP_GOB_INTERFACE,
                .bytes = (unsigned char *)"Order",
                .len = 5,
                .items = &held,
                .count = 1};

    (void)state;
    assert_int_equal(make_kinds(&it, NULL), 0);
    any.held = it.order;
    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gp_gob_encoder_new(&encoders[i], NULL), 0);
    }
    assert_int_equal(gp_gob_encode(output, it.anys, &node_source, &it.world, &list, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoders[0], output, NULL), 0);
    gp_gob_output_parts(output, parts);
    definitions = parts[0].len;
    assert_true(definitions > 0);
    assert_int_equal(gp_gob_encoder_commit(encoders[0], output, NULL), 0);
    gp_gob_output_parts(output, parts);
    assert_int_equal(parts[0].len, 0);
    assert_int_equal(gp_gob_encoder_commit(encoders[1], output, NULL), 0);
    gp_gob_output_parts(output, parts);
    assert_int_equal(parts[0].len, definitions);

    /* The type of a value in an interface is defined as well, before the message. */
    none = &any;
    assert_int_equal(gp_gob_encode(output, it.anys, &node_source, &it.world, &list, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoders[0], output, NULL), 0);
    gp_gob_output_parts(output, parts);
    assert_true(parts[0].len > 0);
    gp_gob_output_free(output);
    gp_gob_encoder_free(encoders[0]);
    gp_gob_encoder_free(encoders[1]);
    gp_gob_group_unref(it.group);
}

/* What large messages have needed is not kept. */
static void
memory_of_large_messages(void **state)
{
    enum { LARGE = 3 << 20 };
    static unsigned char zeros[LARGE];
    gp_gob_group *group;
    gp_gob_type *bytes;
    gp_gob_type *integer;
    gp_gob_output *output;
    gp_gob_decoder *decoder;
    gp_gob_message message;
    gp_gob_part parts[2];
    node_world world = {.count = 0};
    node large = {.kind = GP_GOB_BYTES, .bytes = zeros, .len = LARGE};
    node small = {.kind = GP_GOB_INT, .number = 1};

    (void)state;
    assert_int_equal(gp_gob_group_new(&group, NULL), 0);
    bytes = simple_type(group, GP_GOB_BYTES, 0);
    integer = simple_type(group, GP_GOB_INT, 0);
    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    assert_int_equal(gp_gob_encode(output, bytes, &node_source, &world, &large, NULL), 0);
    gp_gob_output_parts(output, parts);
    for (int i = 0; i < 2; i++) {
        /* Once alone, so that the message takes the memory of the input, and once with another. */
        assert_int_equal(gp_gob_decoder_feed(decoder, parts[1].bytes, parts[1].len, NULL), 0);
        if (i == 1) {
            assert_int_equal(gp_gob_decoder_feed(decoder, "\3\4\0\2", 4, NULL), 0);
        }
        for (int j = 0; j <= i; j++) {
            assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 1);
            assert_int_equal(message.len, j == 0 ? LARGE + 5 : 2);
            gp_gob_message_release(&message);
        }
        assert_int_equal(gp_gob_decoder_next(decoder, &message, NULL), 0);
        assert_int_equal(decoder->input.cap, 0);
    }
    assert_int_equal(gp_gob_encode(output, integer, &node_source, &world, &small, NULL), 0);
    assert_true(output->message.cap < LARGE);
    gp_gob_decoder_unref(decoder);
    gp_gob_output_free(output);
    gp_gob_group_unref(group);
}

enum { THREADS = 4, MESSAGES = 40 };

typedef struct worker {
    pthread_t thread;
    kinds *types;
    gp_gob_decoder *decoder; /* shared */
    gp_gob_message *messages;
    size_t count;
} worker;

static void *
decode_messages(void *arg)
{
    worker *it = arg;
    node_world world = it->types->world;

    for (size_t i = 0; i < it->count; i++) {
        void *value;

        assert_int_equal(gp_gob_decode(it->decoder, &it->messages[i],
                                       i % 3 == 0 ? NULL : it->types->order, &node_sink, &world,
                                       &value, NULL),
                         0);
        node_free(&world, value);
        gp_gob_message_release(&it->messages[i]);
    }
    assert_int_equal(world.made, 0);
    gp_gob_decoder_unref(it->decoder);
    return NULL;
}

/* Messages are decoded by several threads while others, with new types, are taken out. */
static void
several_threads(void **state)
{
    static gp_gob_message messages[THREADS][MESSAGES];
    worker workers[THREADS];
    stream bytes = STREAM_INIT;
    gp_gob_decoder *decoder;
    kinds it;

    (void)state;
    assert_int_equal(make_kinds(&it, NULL), 0);
    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    put_order_stream(&bytes);
    for (int i = 0; i < THREADS; i++) {
        for (int j = 0; j < MESSAGES; j++) {
            char name[16];

            snprintf(name, sizeof(name), "New%d", i * MESSAGES + j);
            define_struct(&bytes, 100 + i * MESSAGES + j, name, "A", 70, NULL);
            assert_int_equal(gp_gob_decoder_feed(decoder, bytes.bytes.data, bytes.bytes.len, NULL),
                             0);
            bytes.bytes.len = 0;
            put_order_message(&bytes, 2);
            assert_int_equal(gp_gob_decoder_feed(decoder, bytes.bytes.data, bytes.bytes.len, NULL),
                             0);
            bytes.bytes.len = 0;
            assert_int_equal(gp_gob_decoder_next(decoder, &messages[i][j], NULL), 1);
        }
        workers[i] = (worker){.types = &it,
                              .decoder = gp_gob_decoder_ref(decoder),
                              .messages = messages[i],
                              .count = MESSAGES};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, decode_messages, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    gp_gob_decoder_unref(decoder);
    gp_gob_group_unref(it.group);
    stream_release(&bytes);
}

static void *
encode_orders(void *arg)
{
    kinds *it = arg;
    node_world world = it->world;
    node *fields[13] = {NULL};
    node order = {.kind = GP_GOB_STRUCT, .items = fields, .count = 13};
    gp_gob_output *output;
    gp_gob_encoder *encoder;

    assert_int_equal(gp_gob_output_new(&output, NULL), 0);
    assert_int_equal(gp_gob_encoder_new(&encoder, NULL), 0);
    assert_int_equal(gp_gob_encode(output, it->order, &node_source, &world, &order, NULL), 0);
    assert_int_equal(gp_gob_encoder_commit(encoder, output, NULL), 0);
    gp_gob_encoder_free(encoder);
    gp_gob_output_free(output);
    return NULL;
}

/* Types get their ids and definitions when several threads first use them. */
static void
types_defined_by_several_threads(void **state)
{
    (void)state;
    for (int i = 0; i < rounds(20); i++) {
        pthread_t threads[THREADS];
        kinds it;

        assert_int_equal(make_kinds(&it, NULL), 0);
        for (int j = 0; j < THREADS; j++) {
            assert_int_equal(pthread_create(&threads[j], NULL, encode_orders, &it), 0);
        }
        for (int j = 0; j < THREADS; j++) {
            assert_int_equal(pthread_join(threads[j], NULL), 0);
        }
        gp_gob_group_unref(it.group);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_decoding),
        cmocka_unit_test(each_allocation_fails_encoding),
        cmocka_unit_test(each_allocation_fails_making_types),
        cmocka_unit_test(each_call_of_a_sink_fails),
        cmocka_unit_test(each_call_of_a_source_fails),
        cmocka_unit_test(values_that_cannot_be_sent),
        cmocka_unit_test(several_streams),
        cmocka_unit_test(memory_of_large_messages),
        cmocka_unit_test(several_threads),
        cmocka_unit_test(types_defined_by_several_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
