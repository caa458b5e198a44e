#include "gob/skim.h"

#include "base/alloc.h"
#include "gob/path.h"
#include "gob/type.h"

enum { AT_END = 1, IN_VALUE = 2 }; /* besides 0: the value continues in the next message */

void
gp__gob_skim_init(gp__gob_skim *skim, const gp__gob_skim_ops *ops, void *ctx, size_t depth,
                  size_t name)
{
    *skim = (gp__gob_skim){.ops = ops, .ctx = ctx, .depth = depth, .name = name};
}

void
gp__gob_skim_release(gp__gob_skim *skim)
{
    gp__free(skim->frames);
    skim->frames = NULL;
    skim->count = skim->cap = 0;
}

int
gp__gob_refuse_bytes(gp_error *err, const gp_gob_wire_type *type)
{
    char described[GP__GOB_DESCRIBED];

    return gp__gob_corrupt(err, "%s is cut short or garbled",
                           gp__gob_wire_type_describe(type, described));
}

static int
push(gp__gob_skim *skim, const gp_gob_wire_type *type, uint64_t left, gp_error *err)
{
    if (skim->count == skim->depth) {
        return gp__gob_corrupt(err, "values are nested more than %zu deep", skim->depth);
    }
    if (skim->count == skim->cap) {
        size_t cap = skim->cap > 0 ? skim->cap * 2 : 16;
        gp__gob_skim_frame *frames = gp__realloc(skim->frames, cap * sizeof(*frames));

        if (frames == NULL) {
            return gp_error_set(err, GP_ENOMEM, "a gob value");
        }
        skim->frames = frames;
        skim->cap = cap;
    }
    skim->frames[skim->count++] = (gp__gob_skim_frame){type, left, 0};
    return IN_VALUE;
}

static int
enter_items(gp__gob_skim *skim, const gp_gob_wire_type *type, gp__gob_cursor *cursor, gp_error *err)
{
    uint64_t per_item = type->kind == GP_GOB_MAP ? 2 : 1;
    uint64_t count;

    /*
     * Each takes at least one byte; but where definitions may come, the rest of them may be in
     * later messages, so that is found out one by one.
     */
    if (!gp__gob_get_uint(cursor, &count) || count > UINT64_MAX / 2 ||
        (type->kind == GP_GOB_ARRAY && count != type->length)) {
        return gp__gob_refuse_bytes(err, type);
    }
    return count > 0 ? push(skim, type, count * per_item, err) : AT_END;
}

/* Begin a value: AT_END if that was all of it, IN_VALUE if a frame has been pushed for the rest. */
static int
enter(gp__gob_skim *skim, const gp_gob_wire_type *type, gp__gob_cursor *cursor, gp_error *err)
{
    const unsigned char *bytes;
    uint64_t number;
    size_t len;

    switch (type->kind) {
    case GP_GOB_BOOL:
    case GP_GOB_INT:
    case GP_GOB_UINT:
    case GP_GOB_FLOAT:
        return gp__gob_get_uint(cursor, &number) ? AT_END : gp__gob_refuse_bytes(err, type);
    case GP_GOB_COMPLEX:
        return gp__gob_get_uint(cursor, &number) && gp__gob_get_uint(cursor, &number)
                   ? AT_END
                   : gp__gob_refuse_bytes(err, type);
    case GP_GOB_BYTES:
    case GP_GOB_STRING:
    case GP_GOB_OPAQUE:
        return gp__gob_get_bytes(cursor, &bytes, &len) ? AT_END : gp__gob_refuse_bytes(err, type);
    case GP_GOB_INTERFACE:
        if (!gp__gob_get_bytes(cursor, &bytes, &len)) {
            return gp__gob_refuse_bytes(err, type);
        }
        if (len > skim->name) {
            return gp__gob_corrupt(err, "the name of a type has %zu bytes, and %zu are allowed",
                                   len, skim->name);
        }
        return len > 0 ? push(skim, type, 1, err) : AT_END;
    case GP_GOB_STRUCT:
        return push(skim, type, 0, err);
    default:
        return enter_items(skim, type, cursor, err);
    }
}

static int
enter_top(gp__gob_skim *skim, const gp_gob_wire_type *type, gp__gob_cursor *cursor, gp_error *err)
{
    uint64_t delta;

    if (type->kind != GP_GOB_STRUCT && (!gp__gob_get_uint(cursor, &delta) || delta != 0)) {
        return gp__gob_refuse_bytes(err, type);
    }
    return enter(skim, type, cursor, err);
}

/* Read on in an interface whose name has been read, from before a definition or the id. */
static int
enter_interface(gp__gob_skim *skim, gp__gob_cursor *cursor, gp_error *err)
{
    const gp_gob_wire_type *interface = skim->frames[skim->count - 1].type;
    const gp_gob_wire_type *type;

    for (;;) {
        const unsigned char *start = cursor->at;
        uint64_t length;
        int64_t id;
        int rc;

        if (!gp__gob_get_int(cursor, &id)) {
            return gp__gob_refuse_bytes(err, interface);
        }
        if (id >= 0) {
            rc = skim->ops->find(skim->ctx, id, &type, err);
            if (rc < 0) {
                return rc;
            }
            if (!gp__gob_get_uint(cursor, &length)) {
                return gp__gob_refuse_bytes(err, interface);
            }
            skim->frames[skim->count - 1].left = 0;
            return enter_top(skim, type, cursor, err);
        }
        if (skim->ops->define == NULL || id == INT64_MIN) {
            return gp__gob_corrupt(err, "a type is defined where no definition can be");
        }
        rc = skim->ops->define(skim->ctx, -id, start, cursor, err);
        if (rc < 0) {
            return rc;
        }
        if (gp__gob_left(cursor) == 0) {
            return 0;
        }
    }
}

/* Begin the next value within the innermost one, or leave that. */
static int
advance(gp__gob_skim *skim, gp__gob_cursor *cursor, gp_error *err)
{
    gp__gob_skim_frame *frame = &skim->frames[skim->count - 1];
    const gp_gob_wire_type *type = frame->type;
    uint64_t delta;

    switch (type->kind) {
    case GP_GOB_STRUCT:
        if (!gp__gob_get_uint(cursor, &delta) || delta > type->field_count - frame->field) {
            return gp__gob_refuse_bytes(err, type);
        }
        if (delta == 0) {
            break;
        }
        frame->field += (size_t)delta;
        return enter(skim, type->fields[frame->field - 1].type, cursor, err);
    case GP_GOB_INTERFACE:
        if (frame->left == 0) {
            break;
        }
        return enter_interface(skim, cursor, err);
    case GP_GOB_MAP:
        if (frame->left == 0) {
            break;
        }
        frame->left--;
        return enter(skim, frame->left % 2 == 1 ? type->key : type->element, cursor, err);
    default:
        if (frame->left == 0) {
            break;
        }
        frame->left--;
        return enter(skim, type->element, cursor, err);
    }
    skim->count--;
    return AT_END;
}

static int
run(gp__gob_skim *skim, int rc, gp__gob_cursor *cursor, gp_error *err)
{
    while (rc > 0 && skim->count > 0) {
        rc = advance(skim, cursor, err);
    }
    return rc;
}

int
gp__gob_skim_value(gp__gob_skim *skim, const gp_gob_wire_type *type, bool top,
                   gp__gob_cursor *cursor, gp_error *err)
{
    int rc;

    skim->count = 0;
    rc = top ? enter_top(skim, type, cursor, err) : enter(skim, type, cursor, err);
    return run(skim, rc, cursor, err);
}

int
gp__gob_skim_continue(gp__gob_skim *skim, gp__gob_cursor *cursor, gp_error *err)
{
    return run(skim, IN_VALUE, cursor, err);
}
