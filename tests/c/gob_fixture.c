#include "gob_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/text.h"
#include "support.h"

void
register_type(node_world *world, const char *name, const gp_gob_type *type)
{
    assert_true(world->count < sizeof(world->registered) / sizeof(world->registered[0]));
    world->registered[world->count].name = name;
    world->registered[world->count++].type = type;
}

static bool
fails(node_world *world)
{
    return ++world->calls == world->fail_after;
}

/* ---- The source ---- */

static int
get_bool(void *ctx, const gp_gob_type *type, void *value, bool *out)
{
    (void)type;
    *out = ((node *)value)->number != 0;
    return fails(ctx) ? GP_EUSER : 0;
}

static int
get_int(void *ctx, const gp_gob_type *type, void *value, int64_t *out)
{
    (void)type;
    *out = (int64_t)((node *)value)->number;
    return fails(ctx) ? GP_EUSER : 0;
}

static int
get_uint(void *ctx, const gp_gob_type *type, void *value, uint64_t *out)
{
    (void)type;
    *out = ((node *)value)->number;
    return fails(ctx) ? GP_EUSER : 0;
}

static int
get_float(void *ctx, const gp_gob_type *type, void *value, double *out)
{
    (void)type;
    *out = ((node *)value)->real[0];
    return fails(ctx) ? GP_EUSER : 0;
}

static int
get_complex(void *ctx, const gp_gob_type *type, void *value, double out[2])
{
    (void)type;
    memcpy(out, ((node *)value)->real, sizeof(((node *)value)->real));
    return fails(ctx) ? GP_EUSER : 0;
}

static int
get_bytes(void *ctx, const gp_gob_type *type, void *value, const void **bytes, size_t *len)
{
    (void)type;
    *bytes = ((node *)value)->bytes;
    *len = ((node *)value)->len;
    return fails(ctx) ? GP_EUSER : 0;
}

static int
open_items(void *ctx, const gp_gob_type *type, void *value, gp_gob_items *out)
{
    node *it = value;

    out->items = (void *const *)it->items;
    out->count = type != NULL && gp_gob_type_kind(type) == GP_GOB_MAP ? it->count / 2 : it->count;
    out->holder = it;
    if (fails(ctx)) {
        return GP_EUSER;
    }
    ((node_world *)ctx)->opened++;
    return 0;
}

static void
close_items(void *ctx, const gp_gob_type *type, gp_gob_items *items)
{
    (void)type;
    assert_ptr_equal(((node *)items->holder)->items, items->items);
    ((node_world *)ctx)->opened--;
}

static int
open_struct(void *ctx, const gp_gob_type *type, void *value, void **fields)
{
    node *it = value;

    if (fails(ctx)) {
        return GP_EUSER;
    }
    assert_int_equal(it->count, gp_gob_type_fields(type));
    for (size_t i = 0; i < it->count; i++) {
        fields[i] = it->items[i];
    }
    ((node_world *)ctx)->opened++;
    return 0;
}

static void
close_struct(void *ctx, const gp_gob_type *type, void **fields)
{
    (void)type;
    (void)fields;
    ((node_world *)ctx)->opened--;
}

static int
open_interface(void *ctx, const gp_gob_type *type, void *value, gp_gob_dynamic *out)
{
    node *it = value;

    (void)type;
    if (fails(ctx)) {
        return GP_EUSER;
    }
    if (it->count > 0) {
        out->name = (const char *)it->bytes;
        out->len = it->len;
        out->type = it->held;
        out->value = it->items[0];
    }
    ((node_world *)ctx)->opened++;
    return 0;
}

static void
close_interface(void *ctx, const gp_gob_type *type, gp_gob_dynamic *dynamic)
{
    (void)type;
    (void)dynamic;
    ((node_world *)ctx)->opened--;
}

const gp_gob_source node_source = {
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

/* ---- The sink ---- */

/* Not by the library's allocator, which tests may make fail. */
static node *
make_node(void *ctx, gp_gob_kind kind, void **out)
{
    node_world *world = ctx;
    node *it;

    if (fails(world)) {
        return NULL;
    }
    it = calloc(1, sizeof(*it));
    assert_non_null(it);
    it->kind = kind;
    world->made++;
    *out = it;
    return it;
}

static void
set_bytes(node *it, const void *bytes, size_t len)
{
    it->bytes = malloc(len + 1);
    assert_non_null(it->bytes);
    if (len > 0) {
        memcpy(it->bytes, bytes, len);
    }
    it->bytes[len] = '\0';
    it->len = len;
}

static void
set_items(node *it, void *const *items, size_t count)
{
    it->items = calloc(count + 1, sizeof(*it->items));
    assert_non_null(it->items);
    for (size_t i = 0; i < count; i++) {
        it->items[i] = items[i];
    }
    it->count = count;
}

static int
make_number(void *ctx, gp_gob_kind kind, uint64_t number, void **out)
{
    node *it = make_node(ctx, kind, out);

    if (it == NULL) {
        return GP_EUSER;
    }
    it->number = number;
    return 0;
}

static int
make_bool(void *ctx, const gp_gob_type *type, bool value, void **out)
{
    (void)type;
    return make_number(ctx, GP_GOB_BOOL, value, out);
}

static int
make_int(void *ctx, const gp_gob_type *type, int64_t value, void **out)
{
    (void)type;
    return make_number(ctx, GP_GOB_INT, (uint64_t)value, out);
}

static int
make_uint(void *ctx, const gp_gob_type *type, uint64_t value, void **out)
{
    (void)type;
    return make_number(ctx, GP_GOB_UINT, value, out);
}

static int
make_float(void *ctx, const gp_gob_type *type, double value, void **out)
{
    node *it = make_node(ctx, GP_GOB_FLOAT, out);

    (void)type;
    if (it == NULL) {
        return GP_EUSER;
    }
    it->real[0] = value;
    return 0;
}

static int
make_complex(void *ctx, const gp_gob_type *type, const double value[2], void **out)
{
    node *it = make_node(ctx, GP_GOB_COMPLEX, out);

    (void)type;
    if (it == NULL) {
        return GP_EUSER;
    }
    memcpy(it->real, value, sizeof(it->real));
    return 0;
}

static int
make_of_bytes(void *ctx, gp_gob_kind kind, const void *bytes, size_t len, void **out)
{
    node *it = make_node(ctx, kind, out);

    if (it == NULL) {
        return GP_EUSER;
    }
    set_bytes(it, bytes, len);
    return 0;
}

static int
make_bytes(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    (void)type;
    return make_of_bytes(ctx, GP_GOB_BYTES, bytes, len, out);
}

static int
make_string(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    (void)type;
    return make_of_bytes(ctx, GP_GOB_STRING, bytes, len, out);
}

static int
make_opaque(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, const void *bytes,
            size_t len, void **out)
{
    int rc = make_of_bytes(ctx, GP_GOB_OPAQUE, bytes, len, out);

    (void)type;
    if (rc == 0) {
        ((node *)*out)->type_name = gp_gob_wire_type_name(wire);
    }
    return rc;
}

static int
make_of_items(void *ctx, gp_gob_kind kind, void *const *items, size_t count, void **out)
{
    node *it = make_node(ctx, kind, out);

    if (it == NULL) {
        return GP_EUSER;
    }
    set_items(it, items, count);
    return 0;
}

static int
make_items(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *items,
           size_t count, void **out)
{
    (void)type;
    return make_of_items(ctx, gp_gob_wire_type_kind(wire), items, count, out);
}

static int
make_map(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *items,
         size_t count, void **out)
{
    (void)type;
    (void)wire;
    return make_of_items(ctx, GP_GOB_MAP, items, count * 2, out);
}

static int
make_struct(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *fields,
            void **out)
{
    size_t count = type != NULL ? gp_gob_type_fields(type) : gp_gob_wire_type_fields(wire);
    int rc = make_of_items(ctx, GP_GOB_STRUCT, fields, count, out);
    node *it = *out;

    if (rc < 0) {
        return rc;
    }
    it->type_name = type != NULL ? gp_gob_type_name(type) : gp_gob_wire_type_name(wire);
    it->field_names = calloc(count + 1, sizeof(*it->field_names));
    assert_non_null(it->field_names);
    for (size_t i = 0; i < count; i++) {
        it->field_names[i] =
            type != NULL ? gp_gob_type_field_name(type, i) : gp_gob_wire_type_field_name(wire, i);
    }
    return 0;
}

static int
make_nil(void *ctx, const gp_gob_type *type, void **out)
{
    (void)type;
    return make_node(ctx, GP_GOB_INTERFACE, out) != NULL ? 0 : GP_EUSER;
}

static int
find_type(void *ctx, const gp_gob_type *type, const void *name, size_t len,
          const gp_gob_wire_type *wire, const gp_gob_type **out)
{
    node_world *world = ctx;

    (void)wire;
    for (size_t i = 0; type != NULL && i < world->count; i++) {
        if (strlen(world->registered[i].name) == len &&
            memcmp(world->registered[i].name, name, len) == 0) {
            *out = world->registered[i].type;
        }
    }
    return fails(world) ? GP_EUSER : 0;
}

static int
make_interface(void *ctx, const gp_gob_type *type, const void *name, size_t len,
               const gp_gob_type *held, const gp_gob_wire_type *wire, void *value, void **out)
{
    node *it = make_node(ctx, GP_GOB_INTERFACE, out);

    (void)type;
    (void)wire;
    if (it == NULL) {
        return GP_EUSER;
    }
    set_bytes(it, name, len);
    set_items(it, &value, 1);
    it->held = held;
    return 0;
}

static void
discard(void *ctx, void *value)
{
    node_free(ctx, value);
}

const gp_gob_sink node_sink = {
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

/* Without recursion: values may be nested deeply. */
void
node_free(node_world *world, node *value)
{
    node *chain = value; /* values to be freed, linked by |chained| */

    if (value != NULL) {
        value->chained = NULL;
    }
    while (chain != NULL) {
        node *it = chain;

        chain = it->chained;
        for (size_t i = 0; i < it->count; i++) {
            if (it->items[i] != NULL) {
                it->items[i]->chained = chain;
                chain = it->items[i];
            }
        }
        free(it->bytes);
        free(it->items);
        free(it->field_names);
        free(it);
        world->made--;
    }
}

/* ---- Notation ---- */

static void put_node(gp__buf *out, const node *it);

static void
put_items(gp__buf *out, const node *it)
{
    bool map = it->kind == GP_GOB_MAP;

    gp__buf_printf(out, map ? "{" : "[");
    for (size_t i = 0; i < it->count; i++) {
        gp__buf_printf(out, "%s", i == 0 ? "" : map && i % 2 == 1 ? ": " : ", ");
        put_node(out, it->items[i]);
    }
    gp__buf_printf(out, map ? "}" : "]");
}

static void
put_struct(gp__buf *out, const node *it)
{
    const char *separator = "";

    gp__buf_printf(out, "%s{", it->type_name);
    for (size_t i = 0; i < it->count; i++) {
        if (it->items[i] != NULL) {
            gp__buf_printf(out, "%s%s: ", separator, it->field_names[i]);
            put_node(out, it->items[i]);
            separator = ", ";
        }
    }
    gp__buf_printf(out, "}");
}

static void
put_node(gp__buf *out, const node *it)
{
    char quoted[GP__QUOTED];

    switch (it->kind) {
    case GP_GOB_BOOL:
        gp__buf_printf(out, it->number != 0 ? "true" : "false");
        break;
    case GP_GOB_INT:
        gp__buf_printf(out, "%" PRId64, (int64_t)it->number);
        break;
    case GP_GOB_UINT:
        gp__buf_printf(out, "%" PRIu64 "u", it->number);
        break;
    case GP_GOB_FLOAT:
        gp__buf_printf(out, "%g", it->real[0]);
        break;
    case GP_GOB_COMPLEX:
        gp__buf_printf(out, "(%g,%g)", it->real[0], it->real[1]);
        break;
    case GP_GOB_BYTES:
        gp__buf_printf(out, "x'%s'", to_hex(it->bytes, it->len));
        break;
    case GP_GOB_OPAQUE:
        gp__buf_printf(out, "%s<%s>", it->type_name, to_hex(it->bytes, it->len));
        break;
    case GP_GOB_STRING:
        gp__buf_printf(out, "%s", gp__quote(quoted, it->bytes, it->len));
        break;
    case GP_GOB_STRUCT:
        put_struct(out, it);
        break;
    case GP_GOB_INTERFACE:
        if (it->count > 0) {
            gp__buf_printf(out, "<%s>", (const char *)it->bytes);
            put_node(out, it->items[0]);
        } else {
            gp__buf_printf(out, "nil");
        }
        break;
    default:
        put_items(out, it);
        break;
    }
}

const char *
node_text(const node *value)
{
    static char text[64 * 1024];
    gp__buf out = GP__BUF_INIT;

    put_node(&out, value);
    assert_true(out.len < sizeof(text));
    memcpy(text, out.data, out.len);
    text[out.len] = '\0';
    gp__buf_release(&out);
    return text;
}

/* ---- Types ---- */

static gp_gob_type *
make_type(gp_gob_group *group, const gp_gob_type_spec *spec)
{
    gp_gob_type *type;

    assert_int_equal(gp_gob_type_new(&type, group, spec, NULL), 0);
    return type;
}

gp_gob_type *
simple_type(gp_gob_group *group, gp_gob_kind kind, int bits)
{
    return make_type(group, &(gp_gob_type_spec){.kind = kind, .bits = bits});
}

gp_gob_type *
opaque_type(gp_gob_group *group, const char *name, gp_gob_flavour flavour)
{
    return make_type(group,
                     &(gp_gob_type_spec){.kind = GP_GOB_OPAQUE, .name = name, .flavour = flavour});
}

gp_gob_type *
slice_of(gp_gob_group *group, const char *name, gp_gob_type *element)
{
    return make_type(group,
                     &(gp_gob_type_spec){.kind = GP_GOB_SLICE, .name = name, .element = element});
}

gp_gob_type *
array_of(gp_gob_group *group, const char *name, size_t length, gp_gob_type *element)
{
    return make_type(group,
                     &(gp_gob_type_spec){
                         .kind = GP_GOB_ARRAY, .name = name, .element = element, .length = length});
}

gp_gob_type *
map_of(gp_gob_group *group, const char *name, gp_gob_type *key, gp_gob_type *element)
{
    return make_type(group, &(gp_gob_type_spec){
                                .kind = GP_GOB_MAP, .name = name, .key = key, .element = element});
}

gp_gob_type *
struct_type(gp_gob_group *group, const char *name)
{
    return make_type(group, &(gp_gob_type_spec){.kind = GP_GOB_STRUCT, .name = name});
}

void
set_fields(gp_gob_type *type, ...)
{
    gp_gob_field fields[32];
    size_t count = 0;
    va_list args;

    va_start(args, type);
    while ((fields[count].name = va_arg(args, const char *)) != NULL) {
        fields[count++].type = va_arg(args, gp_gob_type *);
        assert_true(count < sizeof(fields) / sizeof(fields[0]));
    }
    va_end(args);
    assert_int_equal(gp_gob_type_set_fields(type, fields, count, NULL), 0);
}

/* ---- Bytes ---- */

static unsigned
digit_of(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = strchr(digits, digit);

    assert_true(digit != '\0' && at != NULL);
    return (unsigned)(at - digits);
}

const unsigned char *
from_hex(const char *digits, size_t *len)
{
    static unsigned char bytes[64 * 1024];

    *len = 0;
    while (*digits != '\0') {
        if (*digits == ' ') {
            digits++;
            continue;
        }
        assert_true(*len < sizeof(bytes));
        bytes[(*len)++] = (unsigned char)(digit_of(digits[0]) << 4 | digit_of(digits[1]));
        digits += 2;
    }
    return bytes;
}

const char *
to_hex(const void *bytes, size_t len)
{
    static char digits[128 * 1024];

    assert_true(len * 2 < sizeof(digits));
    digits[0] = '\0';
    for (size_t i = 0; i < len; i++) {
        snprintf(digits + 2 * i, 3, "%02x", ((const unsigned char *)bytes)[i]);
    }
    return digits;
}

const char *
output_hex(const gp_gob_output *output)
{
    gp_gob_part parts[2];
    gp__buf all = GP__BUF_INIT;
    const char *digits;

    gp_gob_output_parts(output, parts);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(gp__buf_append(&all, parts[i].bytes, parts[i].len), 0);
    }
    digits = to_hex(all.data, all.len);
    gp__buf_release(&all);
    return digits;
}

const char *
decoded(node_world *world, const void *bytes, size_t len, const gp_gob_type *type)
{
    static char text[64 * 1024];
    gp_gob_decoder *decoder;
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    gp_error err = GP_ERROR_INIT;
    void *value = NULL;
    int rc;

    assert_int_equal(gp_gob_decoder_new(&decoder, NULL, NULL), 0);
    assert_int_equal(gp_gob_decoder_feed(decoder, bytes, len, NULL), 0);
    rc = gp_gob_decoder_next(decoder, &message, &err);
    if (rc > 0) {
        rc = gp_gob_decode(decoder, &message, type, &node_sink, world, &value, &err);
    } else {
        assert_true(rc < 0); /* a whole value, or what is none */
    }
    if (rc == 0) {
        snprintf(text, sizeof(text), "%s", node_text(value));
        node_free(world, value);
    } else {
        snprintf(text, sizeof(text), "error: %s", gp_error_message(&err));
        assert_int_equal(err.code, rc);
    }
    gp_error_release(&err);
    gp_gob_message_release(&message);
    gp_gob_decoder_unref(decoder);
    return text;
}
