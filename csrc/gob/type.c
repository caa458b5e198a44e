#include "gob/type.h"

#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"

struct gp_gob_group {
    atomic_int refs;
    gp__arena arena;
    gp_gob_type *types;    /* borrowed from the arena; newest first */
    gp_gob_group **others; /* shared: groups that types of this one refer to */
    size_t other_count;
    size_t other_cap;
};

/* ---- Groups ---------------------------------------------------------------------------------- */

int
gp_gob_group_new(gp_gob_group **out, gp_error *err)
{
    gp_gob_group *group = gp__calloc(1, sizeof(*group));

    if (group == NULL) {
        return gp_error_set(err, GP_ENOMEM, "a group of gob types");
    }
    atomic_init(&group->refs, 1);
    *out = group;
    return 0;
}

void
gp_gob_group_unref(gp_gob_group *group)
{
    if (group == NULL || atomic_fetch_sub(&group->refs, 1) > 1) {
        return;
    }
    for (gp_gob_type *type = group->types; type != NULL; type = type->older) {
        gp__free(type->definition);
    }
    for (size_t i = 0; i < group->other_count; i++) {
        gp_gob_group_unref(group->others[i]);
    }
    gp__free(group->others);
    gp__arena_release(&group->arena);
    gp__free(group);
}

/* Keep the group of |type| for as long as |group| lives. |type| may be NULL. */
static int
keep_group_of(gp_gob_group *group, const gp_gob_type *type)
{
    if (type == NULL || type->group == group) {
        return 0;
    }
    for (size_t i = 0; i < group->other_count; i++) {
        if (group->others[i] == type->group) {
            return 0;
        }
    }
    if (group->other_count == group->other_cap) {
        size_t cap = group->other_cap > 0 ? group->other_cap * 2 : 4;
        gp_gob_group **others = gp__realloc(group->others, cap * sizeof(*others));

        if (others == NULL) {
            return GP_ENOMEM;
        }
        group->others = others;
        group->other_cap = cap;
    }
    atomic_fetch_add(&type->group->refs, 1);
    group->others[group->other_count++] = type->group;
    return 0;
}

gp_gob_type *
gp_gob_type_ref(const gp_gob_type *type)
{
    atomic_fetch_add(&type->group->refs, 1);
    return (gp_gob_type *)type;
}

void
gp_gob_type_unref(const gp_gob_type *type)
{
    if (type != NULL) {
        gp_gob_group_unref(type->group);
    }
}

/* ---- Types ----------------------------------------------------------------------------------- */

static bool
bits_fit(gp_gob_kind kind, int bits)
{
    switch (kind) {
    case GP_GOB_INT:
    case GP_GOB_UINT:
        return bits == 8 || bits == 16 || bits == 32 || bits == 64;
    case GP_GOB_FLOAT:
    case GP_GOB_COMPLEX:
        return bits == 32 || bits == 64;
    default:
        return true;
    }
}

static int
check_spec(const gp_gob_type_spec *spec, int bits, gp_error *err)
{
    bool has_element =
        spec->kind == GP_GOB_ARRAY || spec->kind == GP_GOB_SLICE || spec->kind == GP_GOB_MAP;

    if (!bits_fit(spec->kind, bits)) {
        return gp_error_set(err, GP_EINVAL, "gob has no number of %d bits of this kind", bits);
    }
    if (has_element != (spec->element != NULL) ||
        (spec->kind == GP_GOB_MAP) != (spec->key != NULL)) {
        return gp_error_set(
            err, GP_EINVAL,
            "arrays, slices and maps, and no other types, have an element, and maps "
            "a key");
    }
    if (spec->kind == GP_GOB_SLICE && spec->element->kind == GP_GOB_UINT &&
        spec->element->bits == 8) {
        return gp_error_set(err, GP_EINVAL, "gob sends a slice of uint8 as bytes");
    }
    return 0;
}

int
gp_gob_type_new(gp_gob_type **out, gp_gob_group *group, const gp_gob_type_spec *spec, gp_error *err)
{
    int bits = spec->bits != 0 ? spec->bits : 64;
    gp_gob_type *type;
    int rc = check_spec(spec, bits, err);

    if (rc < 0) {
        return rc;
    }
    type = gp__arena_alloc(&group->arena, sizeof(*type));
    if (type == NULL || keep_group_of(group, spec->element) < 0 ||
        keep_group_of(group, spec->key) < 0) {
        goto fail;
    }
    memset(type, 0, sizeof(*type));
    type->kind = spec->kind;
    type->bits = bits;
    type->flavour = spec->flavour;
    type->complete = spec->kind != GP_GOB_STRUCT;
    type->element = spec->element;
    type->key = spec->key;
    type->length = spec->kind == GP_GOB_ARRAY ? spec->length : 0;
    type->tag = spec->tag;
    type->group = group;
    atomic_init(&type->defined, false);
    if (spec->name != NULL) {
        type->name = gp__arena_copy(&group->arena, spec->name, strlen(spec->name) + 1);
        if (type->name == NULL) {
            goto fail;
        }
    }
    type->older = group->types;
    group->types = type;
    *out = type;
    return 0;

fail:
    return gp_error_set(err, GP_ENOMEM, "a gob type");
}

static int
check_fields(const gp_gob_type *type, const gp_gob_field *fields, size_t count, gp_error *err)
{
    if (type->kind != GP_GOB_STRUCT || type->complete) {
        return gp_error_set(err, GP_EINVAL, "only a struct gets fields, and only once");
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].name[0] == '\0') {
            return gp_error_set(err, GP_EINVAL, "field %zu of %s has no name", i,
                                type->name != NULL ? type->name : "a struct");
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(fields[i].name, fields[j].name) == 0) {
                return gp_error_set(err, GP_EINVAL, "%s has two fields with the name %s",
                                    type->name != NULL ? type->name : "a struct", fields[i].name);
            }
        }
    }
    return 0;
}

int
gp_gob_type_set_fields(gp_gob_type *type, const gp_gob_field *fields, size_t count, gp_error *err)
{
    gp__arena *arena = &type->group->arena;
    gp__gob_member_type *members;
    int rc = check_fields(type, fields, count, err);

    if (rc < 0) {
        return rc;
    }
    members = gp__arena_alloc(arena, count * sizeof(*members));
    if (members == NULL) {
        goto fail;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(fields[i].name);
        char *name = gp__arena_copy(arena, fields[i].name, len + 1);

        if (name == NULL || keep_group_of(type->group, fields[i].type) < 0) {
            goto fail;
        }
        members[i] = (gp__gob_member_type){name, len, fields[i].type};
    }
    type->fields = members;
    type->field_count = count;
    type->complete = true;
    return 0;

fail:
    return gp_error_set(err, GP_ENOMEM, "a gob type");
}

/* ---- Records --------------------------------------------------------------------------------- */

static int
make_member_type(gp_gob_type **out, gp_gob_group *group, const gp_gob_member *member, gp_error *err)
{
    const gp_gob_type_spec spec = {.kind = member->kind};

    return gp_gob_type_new(out, group, &spec, err);
}

static int
make_record(gp_gob_type **out, gp_gob_group *group, const char *name, const gp_gob_member *members,
            size_t count, gp_error *err)
{
    const gp_gob_type_spec spec = {.kind = GP_GOB_STRUCT, .name = name};
    gp_gob_field *fields;
    int rc;

    if (count == 1 && members[0].name == NULL) {
        return make_member_type(out, group, &members[0], err);
    }
    rc = gp_gob_type_new(out, group, &spec, err);
    if (rc < 0) {
        return rc;
    }
    fields = gp__calloc(count, sizeof(*fields));
    if (fields == NULL) {
        return gp_error_set(err, GP_ENOMEM, "a gob type");
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        fields[i].name = members[i].name;
        rc = make_member_type(&fields[i].type, group, &members[i], err);
    }
    if (rc == 0) {
        rc = gp_gob_type_set_fields(*out, fields, count, err);
    }
    gp__free(fields);
    return rc;
}

int
gp_gob_record_new(gp_gob_type **out, const char *name, const gp_gob_member *members, size_t count,
                  gp_error *err)
{
    gp_gob_group *group = NULL;
    int rc = gp_gob_group_new(&group, err);

    if (rc < 0) {
        return rc;
    }
    rc = make_record(out, group, name, members, count, err);
    if (rc < 0) {
        gp_gob_group_unref(group);
        return rc;
    }
    (*out)->members = members;
    return 0;
}
