/*
 * Values into messages. There is no recursion: what has been entered is on a stack of frames, and
 * the fields of structs that have been entered are on a stack of fields.
 */
#include <string.h>

#include "base/alloc.h"
#include "gob/output.h"
#include "gob/path.h"
#include "gob/type.h"

/* As in the decoder's default: deeper values are most likely cycles, which gob cannot express. */
enum { DEEPEST = 10000 };

/* A value that has been entered. */
typedef struct frame {
    const gp_gob_type *type;
    size_t at; /* the number of the field, element, or key or element of a map that comes next */
    union {
        struct {
            size_t base; /* where its fields are on the stack of fields */
            size_t sent; /* the number of the last field that has been sent, counted from 1 */
        } record;
        struct {
            gp_gob_items items;
            size_t key; /* of a map: where in the message the current key is */
        } sequence;
        struct {
            gp_gob_dynamic dynamic;
            size_t start; /* where in the message its value begins; the length belongs before it */
        } interface;
    } as;
} frame;

typedef struct encoding {
    gp_gob_output *out;
    const gp_gob_type *root;
    const gp_gob_source *source;
    void *ctx;
    gp_error *err; /* may be NULL */

    frame *frames; /* owned, if it is not |first_frames| */
    size_t depth;
    size_t frame_cap;

    void **fields; /* owned, if it is not |first_fields|; entries may be NULL */
    size_t count;
    size_t field_cap;

    /* Enough for most values. */
    frame first_frames[8];
    void *first_fields[48];
} encoding;

/* What writing a value returns, besides errors. */
enum { OMITTED = 0, WRITTEN = 1, ENTERED = 2 };

/* ---- Errors ---------------------------------------------------------------------------------- */

static void
add_frame_to_path(const encoding *it, const frame *each, gp__buf *path)
{
    const unsigned char *message = (const unsigned char *)it->out->message.data;

    switch (each->type->kind) {
    case GP_GOB_STRUCT:
        if (each->at > 0) {
            gp__gob_path_field(path, each->type->fields[each->at - 1].name);
        }
        break;
    case GP_GOB_INTERFACE:
        gp__gob_path_remark(path, each->as.interface.dynamic.name, each->as.interface.dynamic.len);
        break;
    case GP_GOB_MAP:
        if (each->at % 2 == 1) {
            gp__gob_path_remark(path, "key", 3);
        } else if (each->at > 0) {
            gp__gob_path_entry(path, each->type->key->kind, message + each->as.sequence.key,
                               it->out->message.len - each->as.sequence.key);
        }
        break;
    default:
        if (each->at > 0) {
            gp__gob_path_index(path, each->at - 1);
        }
        break;
    }
}

static void
make_path(const encoding *it, gp__buf *path)
{
    char spelled[GP_GOB_SPELLED];

    *path = (gp__buf)GP__BUF_INIT;
    gp__gob_path_field(path, gp_gob_type_spell(it->root, spelled));
    for (size_t i = 0; i < it->depth; i++) {
        add_frame_to_path(it, &it->frames[i], path);
    }
}

/* The source has failed, or memory is short. */
static int
fail_value(encoding *it, int code)
{
    gp__buf path;

    make_path(it, &path);
    return gp__gob_fail(it->err, code, &path, "%s", gp_strerror(code));
}

static int
refuse_nil(encoding *it, const gp_gob_type *type)
{
    char described[GP__GOB_DESCRIBED];
    gp__buf path;

    make_path(it, &path);
    return gp__gob_fail(it->err, GP_EGOB, &path,
                        "expected %s, found nothing, which gob cannot send here",
                        gp__gob_type_describe(type, described));
}

static int
refuse_number(encoding *it, const gp_gob_type *type)
{
    char described[GP__GOB_DESCRIBED];
    gp__buf path;

    make_path(it, &path);
    return gp__gob_fail(it->err, GP_EGOB, &path, "the number does not fit into %s",
                        gp__gob_type_describe(type, described));
}

/* ---- The stacks ------------------------------------------------------------------------------ */

static int
push(encoding *it, const gp_gob_type *type, frame **out)
{
    if (it->depth == DEEPEST) {
        gp__buf path;

        make_path(it, &path);
        return gp__gob_fail(it->err, GP_EGOB, &path,
                            "values are nested more than %d deep, or contain themselves", DEEPEST);
    }
    if (it->depth == it->frame_cap) {
        size_t cap = it->frame_cap * 2;
        frame *frames = it->frames != it->first_frames ? it->frames : NULL;

        frames = gp__realloc(frames, cap * sizeof(*frames));
        if (frames == NULL) {
            return fail_value(it, GP_ENOMEM);
        }
        if (it->frames == it->first_frames) {
            memcpy(frames, it->frames, it->depth * sizeof(*frames));
        }
        it->frames = frames;
        it->frame_cap = cap;
    }
    *out = &it->frames[it->depth];
    (*out)->type = type;
    (*out)->at = 0;
    return ENTERED;
}

static int
reserve_fields(encoding *it, size_t extra)
{
    size_t cap = it->field_cap;
    void **fields = it->fields != it->first_fields ? it->fields : NULL;

    if (extra <= it->field_cap - it->count) {
        return 0;
    }
    while (cap - it->count < extra) {
        cap *= 2;
    }
    fields = gp__realloc(fields, cap * sizeof(*fields));
    if (fields == NULL) {
        return GP_ENOMEM;
    }
    if (it->fields == it->first_fields) {
        memcpy(fields, it->fields, it->count * sizeof(*fields));
    }
    it->fields = fields;
    it->field_cap = cap;
    return 0;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Write the number of a field, unless it is 0, and a number. */
static int
put_number(encoding *it, uint64_t delta, uint64_t value)
{
    if (gp__gob_output_reserve(it->out, 2 * GP__GOB_UINT_MOST) < 0) {
        return fail_value(it, GP_ENOMEM);
    }
    if (delta > 0) {
        gp__gob_output_put(it->out, delta);
    }
    gp__gob_output_put(it->out, value);
    return WRITTEN;
}

static int
put_bytes(encoding *it, uint64_t delta, const void *bytes, size_t len)
{
    gp__buf *message = &it->out->message;

    if (len > SIZE_MAX / 4 || gp__gob_output_reserve(it->out, 2 * GP__GOB_UINT_MOST + len) < 0) {
        return fail_value(it, GP_ENOMEM);
    }
    if (delta > 0) {
        gp__gob_output_put(it->out, delta);
    }
    gp__gob_output_put(it->out, len);
    if (len > 0) {
        memcpy(message->data + message->len, bytes, len);
        message->len += len;
    }
    return WRITTEN;
}

static int
write_bool(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    bool got;
    int rc = it->source->get_bool(it->ctx, type, value, &got);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    return got || delta == 0 ? put_number(it, delta, got) : OMITTED;
}

static int
write_int(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    int64_t most = INT64_MAX >> (64 - type->bits);
    int64_t got;
    int rc = it->source->get_int(it->ctx, type, value, &got);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (got > most || got < -most - 1) {
        return refuse_number(it, type);
    }
    return got != 0 || delta == 0 ? put_number(it, delta, gp__gob_uint_of(got)) : OMITTED;
}

static int
write_uint(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    uint64_t got;
    int rc = it->source->get_uint(it->ctx, type, value, &got);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (got > UINT64_MAX >> (64 - type->bits)) {
        return refuse_number(it, type);
    }
    return got != 0 || delta == 0 ? put_number(it, delta, got) : OMITTED;
}

static int
write_float(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    double got;
    int rc = it->source->get_float(it->ctx, type, value, &got);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (type->bits == 32 && !gp__gob_narrow(&got)) {
        return refuse_number(it, type);
    }
    return got != 0 || delta == 0 ? put_number(it, delta, gp__gob_bits_of(got)) : OMITTED;
}

static int
write_complex(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    double got[2];
    int rc = it->source->get_complex(it->ctx, type, value, got);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (type->bits == 32 && (!gp__gob_narrow(&got[0]) || !gp__gob_narrow(&got[1]))) {
        return refuse_number(it, type);
    }
    if (got[0] == 0 && got[1] == 0 && delta != 0) {
        return OMITTED;
    }
    rc = put_number(it, delta, gp__gob_bits_of(got[0]));
    return rc < 0 ? rc : put_number(it, 0, gp__gob_bits_of(got[1]));
}

static int
write_bytes(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    const void *bytes;
    size_t len;
    int rc = it->source->get_bytes(it->ctx, type, value, &bytes, &len);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    return len > 0 || delta == 0 ? put_bytes(it, delta, bytes, len) : OMITTED;
}

static int
write_opaque(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    const void *bytes;
    size_t len;
    int rc = it->source->get_opaque(it->ctx, type, value, &bytes, &len);

    if (rc < 0) {
        return fail_value(it, rc);
    }
    return rc == 0 || delta == 0 ? put_bytes(it, delta, bytes, len) : OMITTED;
}

static int
write_items(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    frame *top;
    gp_gob_items items;
    int rc = push(it, type, &top);

    if (rc < 0) {
        return rc;
    }
    rc = it->source->open_items(it->ctx, type, value, &items);
    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (type->kind == GP_GOB_ARRAY && items.count != type->length) {
        char described[GP__GOB_DESCRIBED];
        gp__buf path;

        make_path(it, &path);
        rc = gp__gob_fail(it->err, GP_EGOB, &path, "expected %s, found %zu elements",
                          gp__gob_type_describe(type, described), items.count);
    } else if (type->kind == GP_GOB_SLICE && items.count == 0 && delta > 0) {
        rc = OMITTED;
    } else {
        rc = put_number(it, delta, items.count);
    }
    if (rc != WRITTEN || items.count == 0) {
        it->source->close_items(it->ctx, type, &items);
        return rc;
    }
    top->as.sequence.items = items;
    it->depth++;
    return ENTERED;
}

static int
write_struct(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    frame *top;
    int rc = push(it, type, &top);

    if (rc < 0) {
        return rc;
    }
    if (reserve_fields(it, type->field_count) < 0 ||
        gp__gob_output_reserve(it->out, GP__GOB_UINT_MOST) < 0) {
        return fail_value(it, GP_ENOMEM);
    }
    rc = it->source->open_struct(it->ctx, type, value, it->fields + it->count);
    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (delta > 0) {
        gp__gob_output_put(it->out, delta);
    }
    top->as.record.base = it->count;
    top->as.record.sent = 0;
    it->count += type->field_count;
    it->depth++;
    return ENTERED;
}

static int write_interface(encoding *it, const gp_gob_type *type, void *value, uint64_t delta);

/* A nil pointer, slice, map or interface. */
static int
write_nil(encoding *it, const gp_gob_type *type, uint64_t delta)
{
    if (delta > 0) {
        return OMITTED;
    }
    switch (type->kind) {
    case GP_GOB_BYTES:
    case GP_GOB_SLICE:
    case GP_GOB_MAP:
    case GP_GOB_INTERFACE: /* a name without bytes */
        return put_number(it, 0, 0);
    default:
        return refuse_nil(it, type);
    }
}

/*
 * Write a value, as the field that is |delta| after the last one, and leave it out if it is zero;
 * or, if |delta| is 0, as an element, which is never left out.
 */
static inline int
write_value(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    if (value == NULL) {
        return write_nil(it, type, delta);
    }
    switch (type->kind) {
    case GP_GOB_BOOL:
        return write_bool(it, type, value, delta);
    case GP_GOB_INT:
        return write_int(it, type, value, delta);
    case GP_GOB_UINT:
        return write_uint(it, type, value, delta);
    case GP_GOB_FLOAT:
        return write_float(it, type, value, delta);
    case GP_GOB_COMPLEX:
        return write_complex(it, type, value, delta);
    case GP_GOB_BYTES:
    case GP_GOB_STRING:
        return write_bytes(it, type, value, delta);
    case GP_GOB_OPAQUE:
        return write_opaque(it, type, value, delta);
    case GP_GOB_STRUCT:
        return write_struct(it, type, value, delta);
    case GP_GOB_INTERFACE:
        return write_interface(it, type, value, delta);
    default:
        return write_items(it, type, value, delta);
    }
}

/* Write what the interface on top holds, up to its first value. */
static int
write_held(encoding *it, uint64_t delta)
{
    frame *top = &it->frames[it->depth - 1];
    const gp_gob_dynamic *held = &top->as.interface.dynamic;
    const gp_gob_type *type = held->type;
    int rc = gp__gob_output_add_root(it->out, type, it->err);

    if (rc == 0) {
        rc = put_bytes(it, delta, held->name, held->len);
    }
    if (rc >= 0) {
        rc = put_number(it, 0, gp__gob_uint_of(gp__gob_type_id(type)));
    }
    if (rc < 0) {
        return rc;
    }
    top->as.interface.start = it->out->message.len;
    if (type->kind != GP_GOB_STRUCT) {
        rc = put_number(it, 0, 0);
    }
    return rc < 0 ? rc : write_value(it, type, held->value, 0);
}

static void
leave_interface(encoding *it)
{
    frame *top = &it->frames[--it->depth];

    it->source->close_interface(it->ctx, top->type, &top->as.interface.dynamic);
}

/* Put the length before the value of the interface on top, which is complete. */
static int
finish_interface(encoding *it)
{
    size_t start = it->frames[it->depth - 1].as.interface.start;
    gp__buf *message = &it->out->message;
    unsigned char length[GP__GOB_UINT_MOST];
    size_t len = gp__gob_put_uint(length, message->len - start);

    if (gp__gob_output_reserve(it->out, len) < 0) {
        return fail_value(it, GP_ENOMEM);
    }
    memmove(message->data + start + len, message->data + start, message->len - start);
    memcpy(message->data + start, length, len);
    message->len += len;
    leave_interface(it);
    return WRITTEN;
}

static int
write_interface(encoding *it, const gp_gob_type *type, void *value, uint64_t delta)
{
    gp_gob_dynamic dynamic = {NULL, 0, NULL, NULL, NULL};
    frame *top;
    int rc = push(it, type, &top);

    if (rc < 0) {
        return rc;
    }
    rc = it->source->open_interface(it->ctx, type, value, &dynamic);
    if (rc < 0) {
        return fail_value(it, rc);
    }
    if (dynamic.name == NULL) {
        it->source->close_interface(it->ctx, type, &dynamic);
        return write_nil(it, type, delta);
    }
    top->as.interface.dynamic = dynamic;
    it->depth++;
    rc = write_held(it, delta);
    return rc == WRITTEN ? finish_interface(it) : rc;
}

/* ---- Walking --------------------------------------------------------------------------------- */

/* Write the fields of the struct on top, until one has been entered or all are written. */
static int
write_fields(encoding *it)
{
    frame *top = &it->frames[it->depth - 1];
    const gp_gob_type *type = top->type;
    size_t base = top->as.record.base;

    while (top->at < type->field_count) {
        size_t at = top->at++;
        size_t sent = top->as.record.sent;
        int rc = write_value(it, type->fields[at].type, it->fields[base + at], at + 1 - sent);

        if (rc < 0) {
            return rc;
        }
        if (rc == ENTERED) {
            return ENTERED;
        }
        top = &it->frames[it->depth - 1]; /* an interface may have moved it */
        if (rc == WRITTEN) {
            top->as.record.sent = at + 1;
        }
    }
    if (gp__gob_output_reserve(it->out, 1) < 0) {
        return fail_value(it, GP_ENOMEM);
    }
    gp__gob_output_put(it->out, 0);
    it->count = base;
    it->depth--;
    it->source->close_struct(it->ctx, type, it->fields + base);
    return WRITTEN;
}

/* Write elements, or keys and elements, until one has been entered or all are written. */
static int
write_elements(encoding *it)
{
    frame *top = &it->frames[it->depth - 1];
    const gp_gob_type *type = top->type;
    bool map = type->kind == GP_GOB_MAP;
    size_t count = top->as.sequence.items.count * (map ? 2 : 1);
    void *const *items = top->as.sequence.items.items;

    while (top->at < count) {
        size_t at = top->at++;
        bool key = map && at % 2 == 0;
        int rc;

        if (key) {
            top->as.sequence.key = it->out->message.len;
        }
        rc = write_value(it, key ? type->key : type->element, items[at], 0);
        if (rc != WRITTEN) {
            return rc;
        }
        top = &it->frames[it->depth - 1]; /* an interface may have moved it */
    }
    it->depth--;
    it->source->close_items(it->ctx, type, &top->as.sequence.items);
    return WRITTEN;
}

static int
write_on(encoding *it)
{
    frame *top = &it->frames[it->depth - 1];

    switch (top->type->kind) {
    case GP_GOB_STRUCT:
        top->as.record.sent = top->at; /* the field that had been entered has been sent */
        return write_fields(it);
    case GP_GOB_INTERFACE:
        return finish_interface(it); /* its value has been entered together with it */
    default:
        return write_elements(it);
    }
}

/* Close what has been opened, after a failure. */
static void
close_all(encoding *it)
{
    while (it->depth > 0) {
        frame *top = &it->frames[it->depth - 1];

        switch (top->type->kind) {
        case GP_GOB_STRUCT:
            it->depth--;
            it->source->close_struct(it->ctx, top->type, it->fields + top->as.record.base);
            break;
        case GP_GOB_INTERFACE:
            leave_interface(it);
            break;
        default:
            it->depth--;
            it->source->close_items(it->ctx, top->type, &top->as.sequence.items);
            break;
        }
    }
}

int
gp_gob_encode(gp_gob_output *out, const gp_gob_type *type, const gp_gob_source *source, void *ctx,
              void *value, gp_error *err)
{
    encoding it;
    int rc = gp__gob_output_begin(out, type, err);

    if (rc < 0) {
        return rc;
    }
    it.out = out;
    it.root = type;
    it.source = source;
    it.ctx = ctx;
    it.err = err;
    it.frames = it.first_frames;
    it.depth = 0;
    it.frame_cap = sizeof(it.first_frames) / sizeof(it.first_frames[0]);
    it.fields = it.first_fields;
    it.count = 0;
    it.field_cap = sizeof(it.first_fields) / sizeof(it.first_fields[0]);
    rc = write_value(&it, type, value, 0);
    while (rc >= 0 && it.depth > 0) {
        rc = write_on(&it);
    }
    if (rc < 0) {
        close_all(&it);
        gp__gob_output_clear(out);
    } else {
        gp__gob_output_finish(out);
        rc = 0;
    }
    if (it.fields != it.first_fields) {
        gp__free(it.fields);
    }
    if (it.frames != it.first_frames) {
        gp__free(it.frames);
    }
    return rc;
}
