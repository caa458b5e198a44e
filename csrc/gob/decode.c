/*
 * Values out of messages. There is no recursion: what has been entered is on a stack of frames, and
 * the values that have been made and not yet put into another are on a stack of values.
 */
#include <string.h>

#include "base/alloc.h"
#include "gob/decoder.h"
#include "gob/path.h"
#include "gob/type.h"

/* A value that has been entered and needs the values within it. */
typedef struct frame {
    const gp__gob_plan *plan;
    size_t base;   /* where its values begin on the stack of values */
    uint64_t left; /* elements, or keys and elements, that follow */
    size_t at;     /* of a struct: how many fields of the stream's have been passed; 0 at its end */
    size_t slot;   /* of a struct: where on the stack of values the next value belongs */
    const unsigned char *key; /* of a map: where the current key is in the message */

    /* Of an interface. */
    const unsigned char *name;
    size_t name_len;
    const gp_gob_type *held;
    const gp_gob_wire_type *held_wire;
} frame;

typedef struct decoding {
    gp_gob_decoder *decoder;
    const gp_gob_sink *sink;
    void *ctx;
    gp_error *err; /* not NULL; code 0 until something is recorded */
    gp__gob_cursor cursor;
    void *value; /* what has just been made */

    frame *frames; /* owned, if it is not |first_frames| */
    size_t depth;
    size_t frame_cap;

    void **values; /* owned, if it is not |first_values|; entries may be NULL */
    size_t count;
    size_t value_cap;
    size_t slots_left; /* limit */

    gp__gob_skim skim;

    /* Enough for most messages. */
    frame first_frames[8];
    void *first_values[48];
} decoding;

enum { MADE = 1, ENTERED = 0 }; /* what reading a value returns, besides errors */

/* ---- Errors ---------------------------------------------------------------------------------- */

static void
add_frame_to_path(const decoding *it, const frame *each, size_t made, gp__buf *path)
{
    const gp__gob_plan *plan = each->plan;

    switch (plan->kind) {
    case GP_GOB_STRUCT:
        if (each->at > 0) {
            gp__gob_path_field(path, plan->wire->fields[each->at - 1].name);
        }
        break;
    case GP_GOB_INTERFACE:
        gp__gob_path_remark(path, each->name, each->name_len);
        break;
    case GP_GOB_MAP:
        if (each->left % 2 == 1) {
            gp__gob_path_entry(path, plan->wire->key->kind, each->key,
                               (size_t)(it->cursor.end - each->key));
        } else if (each->left > 0) {
            gp__gob_path_remark(path, "key", 3);
        }
        break;
    default:
        if (each->left > 0) {
            gp__gob_path_index(path, made);
        }
        break;
    }
}

static void
make_path(const decoding *it, gp__buf *path, const gp__gob_plan *root)
{
    char spelled[GP_GOB_SPELLED];

    *path = (gp__buf)GP__BUF_INIT;
    gp__gob_path_field(path, root->type != NULL ? gp_gob_type_spell(root->type, spelled)
                                                : gp_gob_wire_type_spell(root->wire, spelled));
    for (size_t i = 0; i < it->depth; i++) {
        /* The values of a frame end where those of the next one begin. */
        size_t end = i + 1 < it->depth ? it->frames[i + 1].base : it->count;

        add_frame_to_path(it, &it->frames[i], end - it->frames[i].base, path);
    }
}

static const gp__gob_plan *
root_of(const decoding *it, const gp__gob_plan *plan)
{
    return it->depth > 0 ? it->frames[0].plan : plan;
}

/* Bytes that are no value of |plan|. */
static int
refuse_bytes(decoding *it, const gp__gob_plan *plan)
{
    char described[GP__GOB_DESCRIBED];
    gp__buf path;

    make_path(it, &path, root_of(it, plan));
    gp__gob_fail(it->err, GP_EGOB, &path, "%s is cut short or garbled",
                 gp__gob_wire_type_describe(plan->wire, described));
    it->err->number = GP_GOB_CORRUPT;
    return GP_EGOB;
}

static int
refuse_number(decoding *it, const gp__gob_plan *plan)
{
    char described[GP__GOB_DESCRIBED];
    gp__buf path;

    make_path(it, &path, root_of(it, plan));
    return gp__gob_fail(it->err, GP_EGOB, &path, "the number does not fit into %s",
                        gp__gob_type_describe(plan->type, described));
}

/* The sink has failed, or memory is short. */
static int
fail_value(decoding *it, const gp__gob_plan *plan, int code)
{
    gp__buf path;

    make_path(it, &path, root_of(it, plan));
    return gp__gob_fail(it->err, code, &path, "%s", gp_strerror(code));
}

static int
refuse_limit(decoding *it, const gp__gob_plan *plan, const char *what, size_t limit)
{
    gp__buf path;

    make_path(it, &path, root_of(it, plan));
    gp__gob_fail(it->err, GP_EGOB, &path, "%s: more than %zu", what, limit);
    it->err->number = GP_GOB_CORRUPT;
    return GP_EGOB;
}

/* An error has been recorded without a path. */
static int
add_path(decoding *it, const gp__gob_plan *plan, int code)
{
    gp__buf path;

    make_path(it, &path, root_of(it, plan));
    gp_error_prefix(it->err, "%.*s", (int)path.len, path.data != NULL ? path.data : "");
    gp__buf_release(&path);
    return code;
}

/* ---- The stacks ------------------------------------------------------------------------------ */

/* Make room for |extra| values. */
static int
reserve_values(decoding *it, size_t extra)
{
    size_t cap = it->value_cap;
    void **values = it->values != it->first_values ? it->values : NULL;

    if (extra <= it->value_cap - it->count) {
        return 0;
    }
    while (cap - it->count < extra) {
        if (cap > SIZE_MAX / sizeof(*values) / 2) {
            return GP_ENOMEM;
        }
        cap *= 2;
    }
    values = gp__realloc(values, cap * sizeof(*values));
    if (values == NULL) {
        return GP_ENOMEM;
    }
    if (it->values == it->first_values) {
        memcpy(values, it->values, it->count * sizeof(*values));
    }
    it->values = values;
    it->value_cap = cap;
    return 0;
}

/* Enter a value. Returns ENTERED or an error. */
static int
push(decoding *it, const gp__gob_plan *plan, uint64_t left, frame **out)
{
    if (it->depth == it->decoder->depth) {
        return refuse_limit(it, plan, "values are nested too deep", it->depth);
    }
    if (it->depth == it->frame_cap) {
        size_t cap = it->frame_cap * 2;
        frame *frames = it->frames != it->first_frames ? it->frames : NULL;

        frames = gp__realloc(frames, cap * sizeof(*frames));
        if (frames == NULL) {
            return fail_value(it, plan, GP_ENOMEM);
        }
        if (it->frames == it->first_frames) {
            memcpy(frames, it->frames, it->depth * sizeof(*frames));
        }
        it->frames = frames;
        it->frame_cap = cap;
    }
    *out = &it->frames[it->depth++];
    (*out)->plan = plan;
    (*out)->base = it->count;
    (*out)->left = left;
    (*out)->at = 0;
    (*out)->slot = 0;
    return ENTERED;
}

/* Leave the innermost value, whose values are the sink's now. */
static void
pop(decoding *it)
{
    it->count = it->frames[--it->depth].base;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static inline bool
fits_int(int64_t value, int bits)
{
    int64_t most = INT64_MAX >> (64 - bits);

    return value <= most && value >= -most - 1;
}

static inline bool
fits_uint(uint64_t value, int bits)
{
    return value <= UINT64_MAX >> (64 - bits);
}

static int
read_complex(decoding *it, const gp__gob_plan *plan)
{
    uint64_t real;
    uint64_t imaginary;
    double parts[2];

    if (!gp__gob_get_uint(&it->cursor, &real) || !gp__gob_get_uint(&it->cursor, &imaginary)) {
        return refuse_bytes(it, plan);
    }
    parts[0] = gp__gob_float_of(real);
    parts[1] = gp__gob_float_of(imaginary);
    if (plan->type != NULL && plan->type->bits == 32 &&
        (!gp__gob_narrow(&parts[0]) || !gp__gob_narrow(&parts[1]))) {
        return refuse_number(it, plan);
    }
    return it->sink->make_complex(it->ctx, plan->type, parts, &it->value);
}

static int
read_number(decoding *it, const gp__gob_plan *plan)
{
    const gp_gob_type *type = plan->type;
    uint64_t number;
    int64_t integer;
    double real;

    if (!gp__gob_get_uint(&it->cursor, &number)) {
        return refuse_bytes(it, plan);
    }
    switch (plan->kind) {
    case GP_GOB_BOOL:
        return it->sink->make_bool(it->ctx, type, number != 0, &it->value);
    case GP_GOB_INT:
        integer = gp__gob_int_of(number);
        if (type != NULL && !fits_int(integer, type->bits)) {
            return refuse_number(it, plan);
        }
        return it->sink->make_int(it->ctx, type, integer, &it->value);
    case GP_GOB_UINT:
        if (type != NULL && !fits_uint(number, type->bits)) {
            return refuse_number(it, plan);
        }
        return it->sink->make_uint(it->ctx, type, number, &it->value);
    default:
        real = gp__gob_float_of(number);
        if (type != NULL && type->bits == 32 && !gp__gob_narrow(&real)) {
            return refuse_number(it, plan);
        }
        return it->sink->make_float(it->ctx, type, real, &it->value);
    }
}

static int
read_bytes(decoding *it, const gp__gob_plan *plan)
{
    const unsigned char *bytes;
    size_t len;

    if (!gp__gob_get_bytes(&it->cursor, &bytes, &len)) {
        return refuse_bytes(it, plan);
    }
    switch (plan->kind) {
    case GP_GOB_BYTES:
        return it->sink->make_bytes(it->ctx, plan->type, bytes, len, &it->value);
    case GP_GOB_STRING:
        return it->sink->make_string(it->ctx, plan->type, bytes, len, &it->value);
    default:
        return it->sink->make_opaque(it->ctx, plan->type, plan->wire, bytes, len, &it->value);
    }
}

static int
enter_items(decoding *it, const gp__gob_plan *plan)
{
    uint64_t count;
    frame *top;

    /* Each takes at least one byte. */
    if (!gp__gob_get_uint(&it->cursor, &count) || count > gp__gob_left(&it->cursor) ||
        (plan->kind == GP_GOB_ARRAY && count != plan->wire->length)) {
        return refuse_bytes(it, plan);
    }
    return push(it, plan, plan->kind == GP_GOB_MAP ? count * 2 : count, &top);
}

static int
enter_struct(decoding *it, const gp__gob_plan *plan)
{
    frame *top;
    int rc;

    if (plan->slots > it->slots_left) {
        return refuse_limit(it, plan, "fields of structs in one message", it->decoder->slots);
    }
    it->slots_left -= plan->slots;
    if (reserve_values(it, plan->slots) < 0) {
        return fail_value(it, plan, GP_ENOMEM);
    }
    rc = push(it, plan, 0, &top);
    if (rc < 0) {
        return rc;
    }
    memset(it->values + it->count, 0, plan->slots * sizeof(*it->values));
    it->count += plan->slots;
    return ENTERED;
}

static int read_interface(decoding *it, const gp__gob_plan *plan);

/*
 * Read a value: all of it if nothing can be in it (MADE, with |it->value|), or up to the first
 * value in it (ENTERED, with a new frame).
 */
static inline int
read_value(decoding *it, const gp__gob_plan *plan)
{
    int rc;

    if (plan->mismatch) {
        gp__buf path;

        make_path(it, &path, root_of(it, plan));
        return gp__gob_plan_refuse(plan, &path, it->err);
    }
    switch (plan->kind) {
    case GP_GOB_BOOL:
    case GP_GOB_INT:
    case GP_GOB_UINT:
    case GP_GOB_FLOAT:
        rc = read_number(it, plan);
        break;
    case GP_GOB_COMPLEX:
        rc = read_complex(it, plan);
        break;
    case GP_GOB_BYTES:
    case GP_GOB_STRING:
    case GP_GOB_OPAQUE:
        rc = read_bytes(it, plan);
        break;
    case GP_GOB_STRUCT:
        return enter_struct(it, plan);
    case GP_GOB_INTERFACE:
        return read_interface(it, plan);
    default:
        return enter_items(it, plan);
    }
    if (rc < 0) {
        return it->err->code != 0 ? rc : fail_value(it, plan, rc);
    }
    return MADE;
}

/* Read a value as a message or an interface has it. */
static int
read_top_value(decoding *it, const gp__gob_plan *plan)
{
    uint64_t delta;

    if (plan->nothing_common) {
        gp__buf path;

        make_path(it, &path, root_of(it, plan));
        return gp__gob_plan_refuse_strangers(plan, &path, it->err);
    }
    if (!plan->mismatch && plan->kind != GP_GOB_STRUCT &&
        (!gp__gob_get_uint(&it->cursor, &delta) || delta != 0)) {
        return refuse_bytes(it, plan);
    }
    return read_value(it, plan);
}

/* Make the interface on top, whose value has been made. */
static int
make_interface(decoding *it)
{
    const frame *top = &it->frames[it->depth - 1];
    void *held = it->value;
    int rc = it->sink->make_interface(it->ctx, top->plan->type, top->name, top->name_len, top->held,
                                      top->held_wire, held, &it->value);

    if (rc < 0) {
        it->sink->discard(it->ctx, held);
        return fail_value(it, top->plan, rc);
    }
    pop(it);
    return MADE;
}

static int
read_interface(decoding *it, const gp__gob_plan *plan)
{
    const gp__gob_plan *held;
    uint64_t length;
    int64_t id;
    frame *top;
    const unsigned char *name;
    size_t len;
    int rc;

    if (!gp__gob_get_bytes(&it->cursor, &name, &len)) {
        return refuse_bytes(it, plan);
    }
    if (len == 0) {
        rc = it->sink->make_nil(it->ctx, plan->type, &it->value);
        return rc < 0 ? fail_value(it, plan, rc) : MADE;
    }
    rc = push(it, plan, 1, &top);
    if (rc < 0) {
        return rc;
    }
    top->name = name;
    top->name_len = len;
    top->held = NULL;
    top->held_wire = NULL;
    if (!gp__gob_get_int(&it->cursor, &id) || !gp__gob_get_uint(&it->cursor, &length)) {
        return refuse_bytes(it, plan);
    }
    rc = gp__gob_decoder_find_type(it->decoder, id, &top->held_wire, it->err);
    if (rc < 0) {
        return add_path(it, plan, rc);
    }
    rc = it->sink->find_type(it->ctx, plan->type, name, len, top->held_wire, &top->held);
    if (rc < 0) {
        return fail_value(it, plan, rc);
    }
    rc = gp__gob_decoder_find_plan(it->decoder, top->held_wire, top->held, &held, it->err);
    if (rc < 0) {
        return add_path(it, plan, rc);
    }
    rc = read_top_value(it, held);
    return rc == MADE ? make_interface(it) : rc;
}

/* ---- Walking --------------------------------------------------------------------------------- */

/* Put a value into the struct on top, in place of another one that the stream has sent twice. */
static void
put_field(decoding *it, const frame *top, void *value)
{
    void **slot = &it->values[top->slot];

    if (*slot != NULL) {
        it->sink->discard(it->ctx, *slot);
    }
    *slot = value;
}

/* Read the fields of the struct on top, until one has been entered or the struct is made. */
static int
read_struct(decoding *it)
{
    frame *top = &it->frames[it->depth - 1];
    const gp__gob_plan *plan = top->plan;
    const gp_gob_wire_type *wire = plan->wire;
    uint64_t delta;
    int rc;

    for (;;) {
        const gp__gob_step *step;

        if (!gp__gob_get_uint(&it->cursor, &delta) || delta > wire->field_count - top->at) {
            return refuse_bytes(it, plan);
        }
        if (delta == 0) {
            break;
        }
        top->at += (size_t)delta;
        step = &plan->steps[top->at - 1];
        if (step->plan == NULL) {
            rc = gp__gob_skim_value(&it->skim, wire->fields[top->at - 1].type, false, &it->cursor,
                                    it->err);
            if (rc < 0) {
                return add_path(it, plan, rc);
            }
            continue;
        }
        top->slot = top->base + step->slot;
        rc = read_value(it, step->plan);
        if (rc != MADE) {
            return rc;
        }
        top = &it->frames[it->depth - 1]; /* an interface may have moved it */
        put_field(it, top, it->value);
    }
    top->at = 0;
    rc = it->sink->make_struct(it->ctx, plan->type, wire, it->values + top->base, &it->value);
    if (rc < 0) {
        return fail_value(it, plan, rc);
    }
    pop(it);
    return MADE;
}

/* Append a value to the array, slice or map on top. */
static int
put_item(decoding *it, frame *top, void *value)
{
    if (it->count == it->value_cap && reserve_values(it, 1) < 0) {
        it->sink->discard(it->ctx, value);
        return fail_value(it, top->plan, GP_ENOMEM);
    }
    it->values[it->count++] = value;
    top->left--;
    return 0;
}

/* Read elements, or keys and elements, until one has been entered or all are made. */
static int
read_items(decoding *it)
{
    frame *top = &it->frames[it->depth - 1];
    const gp__gob_plan *plan = top->plan;
    bool map = plan->kind == GP_GOB_MAP;
    void **items;
    size_t count;
    int rc;

    while (top->left > 0) {
        bool key = map && top->left % 2 == 0;

        if (key) {
            top->key = it->cursor.at;
        }
        rc = read_value(it, key ? plan->key : plan->element);
        if (rc == MADE) {
            top = &it->frames[it->depth - 1]; /* an interface may have moved it */
            rc = put_item(it, top, it->value);
        } else if (rc == ENTERED) {
            return ENTERED;
        }
        if (rc < 0) {
            return rc;
        }
    }
    items = it->values + top->base;
    count = it->count - top->base;
    rc = map ? it->sink->make_map(it->ctx, plan->type, plan->wire, items, count / 2, &it->value)
             : it->sink->make_items(it->ctx, plan->type, plan->wire, items, count, &it->value);
    if (rc < 0) {
        return fail_value(it, plan, rc);
    }
    pop(it);
    return MADE;
}

/* Put the value that has been made into what is on top, and read on there. */
static int
read_on(decoding *it, bool made)
{
    frame *top = &it->frames[it->depth - 1];
    int rc;

    switch (top->plan->kind) {
    case GP_GOB_STRUCT:
        if (made) {
            put_field(it, top, it->value);
        }
        return read_struct(it);
    case GP_GOB_INTERFACE:
        return make_interface(it); /* its value has been entered together with it */
    default:
        rc = made ? put_item(it, top, it->value) : 0;
        return rc < 0 ? rc : read_items(it);
    }
}

static void
discard_all(decoding *it)
{
    for (size_t i = 0; i < it->count; i++) {
        if (it->values[i] != NULL) {
            it->sink->discard(it->ctx, it->values[i]);
        }
    }
}

static int
find_for_skim(void *ctx, int64_t id, const gp_gob_wire_type **out, gp_error *err)
{
    return gp__gob_decoder_find_type(ctx, id, out, err);
}

/* Definitions have been taken out of messages before. */
static const gp__gob_skim_ops skim_ops = {.find = find_for_skim, .define = NULL};

static int
decode(decoding *it, const gp__gob_plan *plan)
{
    int rc = read_top_value(it, plan);

    while (rc >= 0 && it->depth > 0) {
        rc = read_on(it, rc == MADE);
    }
    if (rc >= 0 && plan->faulty) {
        gp__buf path;

        it->sink->discard(it->ctx, it->value);
        make_path(it, &path, plan);
        rc = gp__gob_plan_refuse(plan, &path, it->err);
    }
    return rc;
}

int
gp_gob_decode(gp_gob_decoder *decoder, const gp_gob_message *message, const gp_gob_type *type,
              const gp_gob_sink *sink, void *ctx, void **value, gp_error *err)
{
    gp_error own = GP_ERROR_INIT;
    decoding it;
    const gp__gob_plan *plan;
    int rc = gp__gob_decoder_find_plan(decoder, message->type, type, &plan, err);

    if (rc < 0) {
        return rc;
    }
    it.decoder = decoder;
    it.sink = sink;
    it.ctx = ctx;
    it.err = err != NULL ? err : &own;
    it.cursor = (gp__gob_cursor){message->body, message->body + message->len};
    it.frames = it.first_frames;
    it.depth = 0;
    it.frame_cap = sizeof(it.first_frames) / sizeof(it.first_frames[0]);
    it.values = it.first_values;
    it.count = 0;
    it.slots_left = decoder->slots;
    it.value_cap = sizeof(it.first_values) / sizeof(it.first_values[0]);
    gp_error_release(it.err);
    gp__gob_skim_init(&it.skim, &skim_ops, decoder, decoder->depth, decoder->name);
    rc = decode(&it, plan);
    if (rc < 0) {
        discard_all(&it);
    } else {
        *value = it.value;
        rc = 0;
    }
    gp__gob_skim_release(&it.skim);
    if (it.values != it.first_values) {
        gp__free(it.values);
    }
    if (it.frames != it.first_frames) {
        gp__free(it.frames);
    }
    gp_error_release(&own);
    return rc;
}
