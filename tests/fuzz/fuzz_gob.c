/*
 * A decoder that is fed any stream, whole and in pieces; its messages as values of types of the
 * program, as records, and untyped. What has been decoded is encoded and decoded again.
 *
 * An input is a stream, so that those of Go can be stored as they are.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gp/gob.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static const gp_gob_limits limits = {.message = 1 << 20, .depth = 500, .slots = 1 << 16};

/* ---- Values ---- */

typedef struct value {
    gp_gob_kind kind;
    uint64_t number;
    double real[2];
    unsigned char *bytes; /* owned */
    size_t len;
    struct value **items; /* owned; entries may be NULL */
    size_t count;
    const gp_gob_type *held;
} value;

/* The context of the sink and the source. */
typedef struct world {
    size_t made; /* values that are not freed */
    size_t total;
    size_t opened;
} world;

static void *
allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    CHECK(memory != NULL);
    return memory;
}

static value *
make_value(void *ctx, gp_gob_kind kind, void **out)
{
    value *it = allocate(sizeof(*it));

    memset(it, 0, sizeof(*it));
    it->kind = kind;
    ((world *)ctx)->made++;
    ((world *)ctx)->total++;
    *out = it;
    return it;
}

/* The depth of values is limited, so this may call itself. */
static void
discard(void *ctx, void *pointer)
{
    value *it = pointer;

    for (size_t i = 0; i < it->count; i++) {
        if (it->items[i] != NULL) {
            discard(ctx, it->items[i]);
        }
    }
    free(it->bytes);
    free(it->items);
    free(it);
    ((world *)ctx)->made--;
}

static void
set_bytes(value *it, const void *bytes, size_t len)
{
    it->bytes = allocate(len);
    it->len = len;
    if (len > 0) {
        memcpy(it->bytes, bytes, len);
    }
}

static void
set_items(value *it, void *const *items, size_t count)
{
    it->items = allocate(count * sizeof(*it->items));
    it->count = count;
    for (size_t i = 0; i < count; i++) {
        it->items[i] = items[i];
    }
}

/* ---- The sink ---- */

static int
make_bool(void *ctx, const gp_gob_type *type, bool number, void **out)
{
    (void)type;
    make_value(ctx, GP_GOB_BOOL, out)->number = number;
    return 0;
}

static int
make_int(void *ctx, const gp_gob_type *type, int64_t number, void **out)
{
    (void)type;
    make_value(ctx, GP_GOB_INT, out)->number = (uint64_t)number;
    return 0;
}

static int
make_uint(void *ctx, const gp_gob_type *type, uint64_t number, void **out)
{
    (void)type;
    make_value(ctx, GP_GOB_UINT, out)->number = number;
    return 0;
}

static int
make_float(void *ctx, const gp_gob_type *type, double number, void **out)
{
    (void)type;
    make_value(ctx, GP_GOB_FLOAT, out)->real[0] = number;
    return 0;
}

static int
make_complex(void *ctx, const gp_gob_type *type, const double number[2], void **out)
{
    (void)type;
    memcpy(make_value(ctx, GP_GOB_COMPLEX, out)->real, number, 2 * sizeof(*number));
    return 0;
}

static int
make_bytes(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    (void)type;
    set_bytes(make_value(ctx, GP_GOB_BYTES, out), bytes, len);
    return 0;
}

static int
make_string(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    (void)type;
    set_bytes(make_value(ctx, GP_GOB_STRING, out), bytes, len);
    return 0;
}

static int
make_opaque(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, const void *bytes,
            size_t len, void **out)
{
    CHECK(type == NULL || gp_gob_type_flavour(type) == gp_gob_wire_type_flavour(wire));
    set_bytes(make_value(ctx, GP_GOB_OPAQUE, out), bytes, len);
    return 0;
}

static int
make_items(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *items,
           size_t count, void **out)
{
    CHECK(type == NULL || gp_gob_type_kind(type) != GP_GOB_ARRAY ||
          count == gp_gob_type_length(type));
    set_items(make_value(ctx, gp_gob_wire_type_kind(wire), out), items, count);
    return 0;
}

static int
make_map(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *items,
         size_t count, void **out)
{
    (void)type;
    (void)wire;
    set_items(make_value(ctx, GP_GOB_MAP, out), items, count * 2);
    return 0;
}

static int
make_struct(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *fields,
            void **out)
{
    set_items(make_value(ctx, GP_GOB_STRUCT, out), fields,
              type != NULL ? gp_gob_type_fields(type) : gp_gob_wire_type_fields(wire));
    return 0;
}

static int
make_nil(void *ctx, const gp_gob_type *type, void **out)
{
    (void)type;
    make_value(ctx, GP_GOB_INTERFACE, out);
    return 0;
}

static int find_type(void *ctx, const gp_gob_type *type, const void *name, size_t len,
                     const gp_gob_wire_type *wire, const gp_gob_type **out);

static int
make_interface(void *ctx, const gp_gob_type *type, const void *name, size_t len,
               const gp_gob_type *held, const gp_gob_wire_type *wire, void *inner, void **out)
{
    value *it = make_value(ctx, GP_GOB_INTERFACE, out);

    (void)type;
    (void)wire;
    set_bytes(it, name, len);
    set_items(it, &inner, 1);
    it->held = held;
    return 0;
}

static const gp_gob_sink sink = {
    .make_bool = make_bool,
    .make_int = make_int,
    .make_uint = make_uint,
    .make_float = make_float,
    .make_complex = make_complex,
    .make_bytes = make_bytes,
    .make_string = make_string,
    .make_opaque = make_opaque,
    .make_items = make_items,
    .make_map = make_map,
    .make_struct = make_struct,
    .make_nil = make_nil,
    .find_type = find_type,
    .make_interface = make_interface,
    .discard = discard,
};

/* ---- The source ---- */

static int
get_bool(void *ctx, const gp_gob_type *type, void *pointer, bool *out)
{
    (void)ctx;
    (void)type;
    *out = ((value *)pointer)->number != 0;
    return 0;
}

static int
get_int(void *ctx, const gp_gob_type *type, void *pointer, int64_t *out)
{
    (void)ctx;
    (void)type;
    *out = (int64_t)((value *)pointer)->number;
    return 0;
}

static int
get_uint(void *ctx, const gp_gob_type *type, void *pointer, uint64_t *out)
{
    (void)ctx;
    (void)type;
    *out = ((value *)pointer)->number;
    return 0;
}

static int
get_float(void *ctx, const gp_gob_type *type, void *pointer, double *out)
{
    (void)ctx;
    (void)type;
    *out = ((value *)pointer)->real[0];
    return 0;
}

static int
get_complex(void *ctx, const gp_gob_type *type, void *pointer, double out[2])
{
    (void)ctx;
    (void)type;
    memcpy(out, ((value *)pointer)->real, 2 * sizeof(*out));
    return 0;
}

static int
get_bytes(void *ctx, const gp_gob_type *type, void *pointer, const void **bytes, size_t *len)
{
    (void)ctx;
    (void)type;
    *bytes = ((value *)pointer)->bytes;
    *len = ((value *)pointer)->len;
    return 0;
}

static int
open_items(void *ctx, const gp_gob_type *type, void *pointer, gp_gob_items *out)
{
    value *it = pointer;

    out->items = (void *const *)it->items;
    out->count = gp_gob_type_kind(type) == GP_GOB_MAP ? it->count / 2 : it->count;
    out->holder = NULL;
    ((world *)ctx)->opened++;
    return 0;
}

static void
close_items(void *ctx, const gp_gob_type *type, gp_gob_items *items)
{
    (void)type;
    (void)items;
    ((world *)ctx)->opened--;
}

static int
open_struct(void *ctx, const gp_gob_type *type, void *pointer, void **fields)
{
    value *it = pointer;

    CHECK(it->count == gp_gob_type_fields(type));
    for (size_t i = 0; i < it->count; i++) {
        fields[i] = it->items[i];
    }
    ((world *)ctx)->opened++;
    return 0;
}

static void
close_struct(void *ctx, const gp_gob_type *type, void **fields)
{
    (void)type;
    (void)fields;
    ((world *)ctx)->opened--;
}

static int
open_interface(void *ctx, const gp_gob_type *type, void *pointer, gp_gob_dynamic *out)
{
    value *it = pointer;

    (void)type;
    if (it->count > 0) {
        if (it->held == NULL) {
            return GP_EUSER; /* what is untyped cannot be encoded */
        }
        out->name = (const char *)it->bytes;
        out->len = it->len;
        out->type = it->held;
        out->value = it->items[0];
    }
    ((world *)ctx)->opened++;
    return 0;
}

static void
close_interface(void *ctx, const gp_gob_type *type, gp_gob_dynamic *dynamic)
{
    (void)type;
    (void)dynamic;
    ((world *)ctx)->opened--;
}

static const gp_gob_source source = {
    .get_bool = get_bool,
    .get_int = get_int,
    .get_uint = get_uint,
    .get_float = get_float,
    .get_complex = get_complex,
    .get_bytes = get_bytes,
    .get_opaque = get_bytes,
    .open_items = open_items,
    .close_items = close_items,
    .open_struct = open_struct,
    .close_struct = close_struct,
    .open_interface = open_interface,
    .close_interface = close_interface,
};

/* ---- Types of the program: those of the stored streams, or much like them ---- */

enum { MOST_TYPES = 24 };

static const gp_gob_type *types[MOST_TYPES];
static size_t type_count;
static gp_gob_type *record;

typedef struct request {
    gp_gob_text method;
    uint64_t seq;
    int64_t number;
    bool flag;
} request;

static const gp_gob_member members[] = {
    {"Name", GP_GOB_STRING, offsetof(request, method)},
    {"Seq", GP_GOB_UINT, offsetof(request, seq)},
    {"X", GP_GOB_INT, offsetof(request, number)},
    {"Bool", GP_GOB_BOOL, offsetof(request, flag)},
};

static gp_gob_type *
make_type(gp_gob_group *group, gp_gob_type_spec spec)
{
    gp_gob_type *type;

    CHECK(gp_gob_type_new(&type, group, &spec, NULL) == 0);
    return type;
}

static gp_gob_type *
make_struct_type(gp_gob_group *group, const char *name, const gp_gob_field *fields, size_t count)
{
    gp_gob_type *type = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_STRUCT, .name = name});

    if (count > 0) {
        CHECK(gp_gob_type_set_fields(type, fields, count, NULL) == 0);
    }
    return type;
}

static void
make_types(void)
{
    gp_gob_group *group;
    gp_gob_type *integer, *int8, *uinteger, *number, *float32, *complex, *bytes, *string, *any;
    gp_gob_type *boolean, *time, *point, *points, *tree, *trees, *chain, *order, *ints;

    CHECK(gp_gob_group_new(&group, NULL) == 0);
    boolean = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_BOOL});
    integer = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_INT});
    int8 = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_INT, .bits = 8});
    uinteger = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_UINT, .bits = 32});
    number = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_FLOAT});
    float32 = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_FLOAT, .bits = 32});
    complex = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_COMPLEX, .bits = 32});
    bytes = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_BYTES});
    string = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_STRING});
    any = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_INTERFACE});
    time = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_OPAQUE, .name = "Time"});
    ints = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = integer});
    point =
        make_struct_type(group, "Point", (const gp_gob_field[]){{"X", integer}, {"Y", integer}}, 2);
    points = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = point});
    tree = make_struct_type(group, "Tree", NULL, 0);
    trees = make_type(group, (gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = tree});
    CHECK(gp_gob_type_set_fields(
              tree, (const gp_gob_field[]){{"Name", string}, {"Children", trees}}, 2, NULL) == 0);
    chain = make_struct_type(group, "Chain", NULL, 0);
    CHECK(gp_gob_type_set_fields(chain, (const gp_gob_field[]){{"Value", int8}, {"Next", chain}}, 2,
                                 NULL) == 0);
    order = make_struct_type(
        group, "Order",
        (const gp_gob_field[]){
            {"Bool", boolean},
            {"Int8", int8},
            {"Uint32", uinteger},
            {"Float32", float32},
            {"Complex64", complex},
            {"String", string},
            {"Bytes", bytes},
            {"Array",
             make_type(group,
                       (gp_gob_type_spec){.kind = GP_GOB_ARRAY, .element = integer, .length = 3})},
            {"Points", points},
            {"ByPoint",
             make_type(group,
                       (gp_gob_type_spec){.kind = GP_GOB_MAP, .key = point, .element = string})},
            {"Any", any},
            {"Value", any},
            {"Anys", make_type(group, (gp_gob_type_spec){.kind = GP_GOB_SLICE, .element = any})},
            {"Tree", tree},
            {"Chain", chain},
            {"When", time},
            {"Float64", number},
        },
        17);
    memcpy(types,
           (const gp_gob_type *[]){order, any, tree, chain, points, ints, point, time, string, int8,
                                   number, bytes, complex, boolean, uinteger},
           15 * sizeof(*types));
    type_count = 15;
    CHECK(gp_gob_record_new(&record, "Record", members, 4, NULL) == 0);
}

/* Names of any kind lead to some type, or to none. */
static int
find_type(void *ctx, const gp_gob_type *type, const void *name, size_t len,
          const gp_gob_wire_type *wire, const gp_gob_type **out)
{
    (void)ctx;
    if (type == NULL) {
        return 0;
    }
    for (size_t i = 0; i < type_count; i++) {
        const char *own = gp_gob_type_name(types[i]);

        if (gp_gob_type_kind(types[i]) == gp_gob_wire_type_kind(wire) &&
            (own == NULL || (len >= strlen(own) && memcmp((const char *)name + len - strlen(own),
                                                          own, strlen(own)) == 0))) {
            *out = types[i];
        }
    }
    return 0;
}

/* ---- Checks ---- */

static void
check_error(int rc, gp_error *err)
{
    CHECK(rc == GP_EGOB || rc == GP_EUSER);
    CHECK(err->code == rc && err->message != NULL && err->message[0] != '\0');
    CHECK(strlen(err->message) < 4096);
    gp_error_release(err);
}

static gp_gob_output *
encode(world *it, const gp_gob_type *type, value *root)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_output *output;
    int rc;

    CHECK(gp_gob_output_new(&output, NULL) == 0);
    rc = gp_gob_encode(output, type, &source, it, root, &err);
    CHECK(it->opened == 0);
    if (rc < 0) {
        check_error(rc, &err);
        gp_gob_output_free(output);
        return NULL;
    }
    return output;
}

/* Decode what has been encoded, which must be possible. */
static value *
decode_output(world *it, const gp_gob_type *type, gp_gob_output *output)
{
    gp_gob_encoder *encoder;
    gp_gob_decoder *decoder;
    gp_gob_message message;
    gp_gob_part parts[2];
    void *root;

    CHECK(gp_gob_encoder_new(&encoder, NULL) == 0);
    CHECK(gp_gob_decoder_new(&decoder, NULL, NULL) == 0);
    CHECK(gp_gob_encoder_commit(encoder, output, NULL) == 0);
    gp_gob_output_parts(output, parts);
    for (size_t i = 0; i < 2; i++) {
        CHECK(gp_gob_decoder_feed(decoder, parts[i].bytes, parts[i].len, NULL) == 0);
    }
    CHECK(gp_gob_decoder_next(decoder, &message, NULL) == 1);
    CHECK(gp_gob_decoder_at_end(decoder));
    CHECK(gp_gob_decode(decoder, &message, type, &sink, it, &root, NULL) == 0);
    gp_gob_message_release(&message);
    gp_gob_decoder_unref(decoder);
    gp_gob_encoder_free(encoder);
    return root;
}

/*
 * Encode a value, decode that, and encode it again: the same bytes. (The value itself may have
 * zeros that are not sent.)
 */
static void
check_encoding(world *it, const gp_gob_type *type, value *root)
{
    gp_gob_output *first = encode(it, type, root);
    gp_gob_output *second;
    gp_gob_part a[2];
    gp_gob_part b[2];
    value *back;

    if (first == NULL) {
        return;
    }
    back = decode_output(it, type, first);
    second = encode(it, type, back);
    CHECK(second != NULL);
    gp_gob_output_parts(first, a);
    gp_gob_output_parts(second, b);
    CHECK(a[1].len == b[1].len && memcmp(a[1].bytes, b[1].bytes, a[1].len) == 0);
    discard(it, back);
    gp_gob_output_free(first);
    gp_gob_output_free(second);
}

static void
decode(gp_gob_decoder *decoder, const gp_gob_message *message, const gp_gob_type *type)
{
    world it = {0, 0, 0};
    gp_error err = GP_ERROR_INIT;
    void *root;
    int rc = gp_gob_decode(decoder, message, type, &sink, &it, &root, &err);

    CHECK(it.total <= message->len + 1); /* each takes a byte at least */
    if (rc < 0) {
        check_error(rc, &err);
    } else {
        if (type != NULL) {
            check_encoding(&it, type, root);
        }
        discard(&it, root);
    }
    CHECK(it.made == 0);
}

static void
decode_record(gp_gob_decoder *decoder, const gp_gob_message *message)
{
    gp_error err = GP_ERROR_INIT;
    request got;
    int rc = gp_gob_record_decode(decoder, message, record, &got, &err);

    if (rc < 0) {
        check_error(rc, &err);
    } else {
        CHECK(got.method.len <= message->len);
    }
}

/*
 * Take all messages there are, and add their bytes to |*sum|.
 */
static void
take_messages(gp_gob_decoder *decoder, bool decoding, uint64_t *sum)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_message message;
    int rc;

    while ((rc = gp_gob_decoder_next(decoder, &message, &err)) > 0) {
        *sum = *sum * 31 + message.len;
        for (size_t i = 0; i < message.len; i++) {
            *sum = *sum * 31 + message.body[i];
        }
        if (decoding) {
            decode(decoder, &message, NULL);
            for (size_t i = 0; i < type_count; i++) {
                decode(decoder, &message, types[i]);
            }
            decode_record(decoder, &message);
        }
        gp_gob_message_release(&message);
    }
    if (rc < 0) {
        check_error(rc, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_gob_decoder *decoder;
    size_t piece = size % 13 + 1;
    uint64_t whole = 0;
    uint64_t pieces = 0;

    if (type_count == 0) {
        make_types();
    }
    CHECK(gp_gob_decoder_new(&decoder, &limits, NULL) == 0);
    CHECK(gp_gob_decoder_feed(decoder, data, size, NULL) == 0);
    take_messages(decoder, true, &whole);
    gp_gob_decoder_unref(decoder);

    CHECK(gp_gob_decoder_new(&decoder, &limits, NULL) == 0);
    for (size_t at = 0; at < size; at += piece) {
        size_t len = size - at < piece ? size - at : piece;

        CHECK(gp_gob_decoder_feed(decoder, data + at, len, NULL) == 0);
        take_messages(decoder, false, &pieces);
    }
    CHECK(whole == pieces);
    gp_gob_decoder_unref(decoder);
    return 0;
}
