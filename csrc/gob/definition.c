/*
 * Ids and definitions of the program's types.
 *
 * A definition is a value of Go's wireType: a struct with a field for each kind, of which one is
 * set. Each of these is a struct whose first field is CommonType{Name, Id}. All names and numbers
 * below are fields of those structs.
 */
#include "gob/type.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fork.h"
#include "gob/wire.h"

/* Both are guarded by gp__fork_hold(). */
static int32_t last_id = GP__GOB_FIRST_ID - 1;
static unsigned last_walk;

int32_t
gp__gob_predefined_id(gp_gob_kind kind)
{
    switch (kind) {
    case GP_GOB_BOOL:
        return 1;
    case GP_GOB_INT:
        return 2;
    case GP_GOB_UINT:
        return 3;
    case GP_GOB_FLOAT:
        return 4;
    case GP_GOB_BYTES:
        return 5;
    case GP_GOB_STRING:
        return 6;
    case GP_GOB_COMPLEX:
        return 7;
    case GP_GOB_INTERFACE:
        return 8;
    default:
        return 0;
    }
}

int32_t
gp__gob_type_id(const gp_gob_type *type)
{
    int32_t id = gp__gob_predefined_id(type->kind);

    return id != 0 ? id : type->id;
}

bool
gp__gob_type_is_defined(const gp_gob_type *type)
{
    return gp__gob_predefined_id(type->kind) == 0;
}

/* ---- The bytes of a definition --------------------------------------------------------------- */

static int
put_uint(gp__buf *out, uint64_t value)
{
    unsigned char bytes[GP__GOB_UINT_MOST];

    return gp__buf_append(out, bytes, gp__gob_put_uint(bytes, value));
}

static int
put_int(gp__buf *out, int64_t value)
{
    return put_uint(out, gp__gob_uint_of(value));
}

static int
put_text(gp__buf *out, const char *text, size_t len)
{
    int rc = put_uint(out, len);

    return rc < 0 ? rc : gp__buf_append(out, text, len);
}

/* A struct of a name and an id, as CommonType and fieldType are. */
static int
put_named(gp__buf *out, const char *name, size_t len, int32_t id)
{
    int rc = 0;

    if (len > 0) {
        rc = put_uint(out, 1);
        rc = rc < 0 ? rc : put_text(out, name, len);
    }
    rc = rc < 0 ? rc : put_uint(out, len > 0 ? 1 : 2);
    rc = rc < 0 ? rc : put_int(out, id);
    return rc < 0 ? rc : put_uint(out, 0);
}

/* A field that holds an id or a length, right behind the field before it. */
static int
put_next_int(gp__buf *out, int64_t value)
{
    int rc = put_uint(out, 1);

    return rc < 0 ? rc : put_int(out, value);
}

static int
put_fields(gp__buf *out, const gp_gob_type *type)
{
    int rc = 0;

    if (type->field_count > 0) {
        rc = put_uint(out, 1);
        rc = rc < 0 ? rc : put_uint(out, type->field_count);
    }
    for (size_t i = 0; i < type->field_count && rc == 0; i++) {
        const gp__gob_member_type *field = &type->fields[i];

        rc = put_named(out, field->name, field->len, gp__gob_type_id(field->type));
    }
    return rc;
}

/* The number of wireType's field for the type, counted from 1. */
static unsigned
field_of_wire_type(const gp_gob_type *type)
{
    switch (type->kind) {
    case GP_GOB_ARRAY:
        return 1;
    case GP_GOB_SLICE:
        return 2;
    case GP_GOB_STRUCT:
        return 3;
    case GP_GOB_MAP:
        return 4;
    default:
        return 5 + (unsigned)type->flavour;
    }
}

static int
put_definition(gp__buf *out, const gp_gob_type *type)
{
    char spelled[GP_GOB_SPELLED];
    const char *name = type->name;
    int rc;

    if (name == NULL) {
        name = type->is_field ? gp_gob_type_spell(type, spelled) : "";
    }
    rc = put_int(out, -(int64_t)type->id);
    rc = rc < 0 ? rc : put_uint(out, field_of_wire_type(type));
    rc = rc < 0 ? rc : put_uint(out, 1);
    rc = rc < 0 ? rc : put_named(out, name, strlen(name), type->id);
    if (rc < 0) {
        return rc;
    }
    switch (type->kind) {
    case GP_GOB_ARRAY:
        rc = put_next_int(out, gp__gob_type_id(type->element));
        if (type->length > 0) {
            rc = rc < 0 ? rc : put_next_int(out, (int64_t)type->length);
        }
        break;
    case GP_GOB_SLICE:
        rc = put_next_int(out, gp__gob_type_id(type->element));
        break;
    case GP_GOB_MAP:
        rc = put_next_int(out, gp__gob_type_id(type->key));
        rc = rc < 0 ? rc : put_next_int(out, gp__gob_type_id(type->element));
        break;
    case GP_GOB_STRUCT:
        rc = put_fields(out, type);
        break;
    default:
        break;
    }
    rc = rc < 0 ? rc : put_uint(out, 0); /* the end of the kind's struct */
    return rc < 0 ? rc : put_uint(out, 0);
}

static int
make_definition(gp_gob_type *type)
{
    gp__buf body = GP__BUF_INIT;
    unsigned char length[GP__GOB_UINT_MOST];
    size_t prefix;
    int rc = put_definition(&body, type);

    if (rc < 0) {
        goto done;
    }
    prefix = gp__gob_put_uint(length, body.len);
    type->definition = gp__malloc(sizeof(*type->definition) + prefix + body.len);
    if (type->definition == NULL) {
        rc = GP_ENOMEM;
        goto done;
    }
    type->definition->len = prefix + body.len;
    memcpy(type->definition->bytes, length, prefix);
    memcpy(type->definition->bytes + prefix, body.data, body.len);

done:
    gp__buf_release(&body);
    return rc;
}

/* ---- Ids ------------------------------------------------------------------------------------- */

/* The types that a walk has found to lack a definition, in the order of their ids. */
typedef struct walk {
    unsigned number;
    gp_gob_type *first;
    gp_gob_type **end;
} walk;

static int
give_id(gp_gob_type *type, gp_error *err)
{
    if (type->id != 0) {
        return 0;
    }
    if (last_id == INT32_MAX) {
        return gp_error_set(err, GP_EINVAL, "the process has no ids left for gob types");
    }
    type->id = ++last_id;
    return 0;
}

/*
 * Find |type| and what it refers to. As in Go, a struct gets its id before the types of its fields,
 * other types get theirs after their elements; a type that has none when a field refers to it gets
 * it then.
 */
static int
visit(walk *it, gp_gob_type *type, bool is_field, gp_error *err)
{
    int rc = 0;

    if (!gp__gob_type_is_defined(type) || atomic_load(&type->defined)) {
        return 0;
    }
    if (type->walk == it->number) {
        return give_id(type, err);
    }
    type->walk = it->number;
    type->is_field = type->is_field || (is_field && type->id == 0);
    type->later = NULL;
    *it->end = type;
    it->end = &type->later;
    if (!type->complete) {
        return gp_error_set(err, GP_EINVAL, "the struct %s has not been given its fields",
                            type->name != NULL ? type->name : "without a name");
    }
    if (type->kind == GP_GOB_STRUCT) {
        rc = give_id(type, err);
    }
    for (size_t i = 0; i < type->field_count && rc == 0; i++) {
        rc = visit(it, type->fields[i].type, true, err);
    }
    if (rc == 0 && type->key != NULL) {
        rc = visit(it, type->key, false, err);
    }
    if (rc == 0 && type->element != NULL) {
        rc = visit(it, type->element, false, err);
    }
    return rc < 0 ? rc : give_id(type, err);
}

static int
define_all(gp_gob_type *type, gp_error *err)
{
    walk it = {.number = ++last_walk, .first = NULL};
    int rc;

    it.end = &it.first;
    rc = visit(&it, type, false, err);
    for (gp_gob_type *each = it.first; each != NULL && rc == 0; each = each->later) {
        rc = each->definition != NULL ? 0 : make_definition(each);
        if (rc < 0) {
            gp_error_set(err, rc, "the definition of a gob type");
        }
    }
    for (gp_gob_type *each = it.first; each != NULL && rc == 0; each = each->later) {
        atomic_store(&each->defined, true);
    }
    return rc;
}

int
gp__gob_type_define(const gp_gob_type *type, gp_error *err)
{
    int rc;

    if (!gp__gob_type_is_defined(type) || atomic_load(&type->defined)) {
        return 0;
    }
    /* No thread that a fork leaves behind may be in here: the child would see half of it. */
    gp__fork_hold();
    rc = define_all((gp_gob_type *)type, err);
    gp__fork_release();
    return rc;
}
