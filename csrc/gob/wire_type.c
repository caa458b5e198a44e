#include "gob/wire_type.h"

#include <string.h>

#include "base/alloc.h"
#include "gob/path.h"

typedef struct gp__gob_tag {
    void *value;
    void (*release)(void *value);
} gp__gob_tag;

/* ---- The table ------------------------------------------------------------------------------- */

static const gp_gob_limits default_limits = {
    .message = (size_t)1 << 30,
    .depth = 10000,
    .types = 4096,
    .definitions = (size_t)1 << 20,
    .fields = 4096,
    .name = 1024,
    .slots = (size_t)64 << 20,
};

static size_t
limit_or(size_t limit, size_t otherwise)
{
    return limit > 0 ? limit : otherwise;
}

static void
set_limits(gp_gob_limits *out, const gp_gob_limits *limits)
{
    *out = default_limits;
    if (limits == NULL) {
        return;
    }
    out->message = limit_or(limits->message, out->message);
    out->depth = limit_or(limits->depth, out->depth);
    out->types = limit_or(limits->types, out->types);
    out->definitions = limit_or(limits->definitions, out->definitions);
    out->fields = limit_or(limits->fields, out->fields);
    out->name = limit_or(limits->name, out->name);
    out->slots = limit_or(limits->slots, out->slots);
}

void
gp__gob_types_init(gp__gob_types *types, const gp_gob_limits *limits)
{
    static const gp_gob_kind kinds[GP__GOB_PREDEFINED] = {
        [1] = GP_GOB_BOOL,  [2] = GP_GOB_INT,    [3] = GP_GOB_UINT,    [4] = GP_GOB_FLOAT,
        [5] = GP_GOB_BYTES, [6] = GP_GOB_STRING, [7] = GP_GOB_COMPLEX, [8] = GP_GOB_INTERFACE,
    };

    memset(types, 0, sizeof(*types));
    set_limits(&types->limits, limits);
    for (int id = 1; id < GP__GOB_PREDEFINED; id++) {
        gp_gob_wire_type *type = &types->predefined[id];

        type->kind = kinds[id];
        type->name = "";
        type->resolved = true;
        type->dynamic = kinds[id] == GP_GOB_INTERFACE;
        atomic_init(&type->tag, NULL);
    }
}

static void
release_tag(gp_gob_wire_type *type)
{
    gp__gob_tag *tag = atomic_load(&type->tag);

    if (tag != NULL) {
        tag->release(tag->value);
        gp__free(tag);
    }
}

void
gp__gob_types_release(gp__gob_types *types)
{
    for (int id = 1; id < GP__GOB_PREDEFINED; id++) {
        release_tag(&types->predefined[id]);
    }
    for (gp_gob_wire_type *type = types->defined; type != NULL; type = type->older) {
        release_tag(type);
    }
    gp__gob_map_release(&types->by_id);
    gp__arena_release(&types->arena);
}

void *
gp_gob_wire_type_tag(const gp_gob_wire_type *type)
{
    gp__gob_tag *tag = atomic_load(&((gp_gob_wire_type *)type)->tag);

    return tag != NULL ? tag->value : NULL;
}

void *
gp_gob_wire_type_set_tag(const gp_gob_wire_type *type, void *value, void (*release)(void *tag))
{
    gp__gob_tag *tag = gp__malloc(sizeof(*tag));
    gp__gob_tag *other = NULL;

    if (tag == NULL) {
        return NULL;
    }
    *tag = (gp__gob_tag){value, release};
    if (!atomic_compare_exchange_strong(&((gp_gob_wire_type *)type)->tag, &other, tag)) {
        gp__free(tag);
        return other->value;
    }
    return value;
}

/* ---- Definitions ----------------------------------------------------------------------------- */

/* A definition that is being read. */
typedef struct reader {
    gp__gob_types *types;
    gp__gob_cursor *cursor;
    gp_gob_wire_type *type; /* being filled */
    int64_t id;
    gp_error *err;
} reader;

static int
refuse_garbled(const reader *it)
{
    return gp__gob_corrupt(it->err, "the definition of type %lld is garbled", (long long)it->id);
}

/*
 * The number of the next field of a struct that is at |*field|, counted from 1, up to |last|: 0 at
 * its end.
 */
static int
next_field(const reader *it, unsigned *field, unsigned last)
{
    uint64_t delta;

    if (!gp__gob_get_uint(it->cursor, &delta) || delta > last - *field) {
        return refuse_garbled(it);
    }
    *field = delta == 0 ? 0 : *field + (unsigned)delta;
    return 0;
}

static int
read_name(const reader *it, const char **name, size_t *name_len)
{
    const unsigned char *bytes;
    size_t len;
    char *copy;

    if (!gp__gob_get_bytes(it->cursor, &bytes, &len)) {
        return refuse_garbled(it);
    }
    if (len > it->types->limits.name) {
        return gp__gob_corrupt(
            it->err, "the definition of type %lld has a name of %zu bytes, and %zu are allowed",
            (long long)it->id, len, it->types->limits.name);
    }
    if (len > 0 && memchr(bytes, '\0', len) != NULL) {
        return gp__gob_corrupt(it->err, "the definition of type %lld has a name with a zero byte",
                               (long long)it->id);
    }
    copy = gp__arena_alloc(&it->types->arena, len + 1);
    if (copy == NULL) {
        return gp_error_set(it->err, GP_ENOMEM, "the definition of a gob type");
    }
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    *name = copy;
    *name_len = len;
    return 0;
}

static int
read_id(const reader *it, int32_t *out)
{
    int64_t id;

    if (!gp__gob_get_int(it->cursor, &id) || id <= 0 || id > INT32_MAX) {
        return refuse_garbled(it);
    }
    *out = (int32_t)id;
    return 0;
}

/* CommonType{Name, Id} or fieldType{Name, Id}: both are the same. */
static int
read_named(const reader *it, const char **name, size_t *len, int32_t *id)
{
    unsigned field = 0;
    int rc;

    while ((rc = next_field(it, &field, 2)) == 0 && field != 0) {
        rc = field == 1 ? read_name(it, name, len) : read_id(it, id);
        if (rc < 0) {
            return rc;
        }
    }
    return rc;
}

static int
read_fields(const reader *it)
{
    gp_gob_wire_type *type = it->type;
    uint64_t count;

    /* Each takes at least one byte. */
    if (!gp__gob_get_uint(it->cursor, &count) || count > gp__gob_left(it->cursor) ||
        type->fields != NULL) {
        return refuse_garbled(it);
    }
    if (count > it->types->limits.fields) {
        return gp__gob_corrupt(it->err, "the struct %s has %llu fields, and %zu are allowed",
                               type->name, (unsigned long long)count, it->types->limits.fields);
    }
    type->fields = gp__arena_alloc(&it->types->arena, (size_t)count * sizeof(*type->fields));
    if (type->fields == NULL) {
        return gp_error_set(it->err, GP_ENOMEM, "the definition of a gob type");
    }
    for (size_t i = 0; i < count; i++) {
        gp__gob_wire_field *field = &type->fields[i];
        int rc;

        *field = (gp__gob_wire_field){"", 0, 0, NULL};
        rc = read_named(it, &field->name, &field->len, &field->id);
        if (rc < 0) {
            return rc;
        }
        if (field->len == 0 || field->id == 0) {
            return gp__gob_corrupt(it->err, "field %zu of the struct %s has no %s", i, type->name,
                                   field->len == 0 ? "name" : "type");
        }
    }
    type->field_count = (size_t)count;
    return 0;
}

static int
read_length(const reader *it)
{
    int64_t length;

    if (!gp__gob_get_int(it->cursor, &length) || length < 0 || (uint64_t)length > SIZE_MAX / 2) {
        return refuse_garbled(it);
    }
    it->type->length = (size_t)length;
    return 0;
}

/* One field of arrayType, sliceType, structType, mapType or gobEncoderType. */
static int
read_part(const reader *it, unsigned field)
{
    int32_t own_id = 0; /* repeated in the definition; Go does not look at it either */
    size_t len;

    if (field == 1) {
        return read_named(it, &it->type->name, &len, &own_id);
    }
    switch (it->type->kind) {
    case GP_GOB_STRUCT:
        return read_fields(it);
    case GP_GOB_MAP:
        return read_id(it, field == 2 ? &it->type->key_id : &it->type->element_id);
    default:
        return field == 2 ? read_id(it, &it->type->element_id) : read_length(it);
    }
}

/* The struct that is one field of wireType. */
static int
read_kind(const reader *it, unsigned which)
{
    static const struct {
        gp_gob_kind kind;
        gp_gob_flavour flavour;
        unsigned fields;
    } kinds[] = {
        {GP_GOB_ARRAY, 0, 3},
        {GP_GOB_SLICE, 0, 2},
        {GP_GOB_STRUCT, 0, 2},
        {GP_GOB_MAP, 0, 3},
        {GP_GOB_OPAQUE, GP_GOB_ENCODER, 1},
        {GP_GOB_OPAQUE, GP_GOB_BINARY, 1},
        {GP_GOB_OPAQUE, GP_GOB_TEXT, 1},
    };
    unsigned field = 0;
    int rc;

    it->type->kind = kinds[which - 1].kind;
    it->type->flavour = kinds[which - 1].flavour;
    while ((rc = next_field(it, &field, kinds[which - 1].fields)) == 0 && field != 0) {
        rc = read_part(it, field);
        if (rc < 0) {
            return rc;
        }
    }
    return rc;
}

enum { LAST_KIND = 7 };

static int
read_wire_type(const reader *it)
{
    bool found = false;
    unsigned field = 0;
    int rc;

    it->type->name = "";
    while ((rc = next_field(it, &field, LAST_KIND)) == 0 && field != 0) {
        if (found) {
            return gp__gob_corrupt(it->err, "type %lld is defined as two kinds at once",
                                   (long long)it->id);
        }
        found = true;
        rc = read_kind(it, field);
        if (rc < 0) {
            return rc;
        }
    }
    if (rc < 0) {
        return rc;
    }
    if (!found ||
        ((it->type->kind == GP_GOB_ARRAY || it->type->kind == GP_GOB_SLICE ||
          it->type->kind == GP_GOB_MAP) &&
         it->type->element_id == 0) ||
        (it->type->kind == GP_GOB_MAP && it->type->key_id == 0)) {
        return gp__gob_corrupt(it->err, "the definition of type %lld is incomplete",
                               (long long)it->id);
    }
    return 0;
}

int
gp__gob_types_define(gp__gob_types *types, int64_t id, gp__gob_cursor *cursor, gp_error *err)
{
    const unsigned char *start = cursor->at;
    gp_gob_wire_type *type;
    int rc;

    if (id < GP__GOB_PREDEFINED || id > INT32_MAX ||
        gp__gob_map_get(&types->by_id, (uint64_t)id, NULL) != NULL) {
        return gp__gob_corrupt(err, "type %lld is defined again", (long long)id);
    }
    if (types->by_id.used >= types->limits.types) {
        return gp__gob_corrupt(err, "the stream defines more than %zu types", types->limits.types);
    }
    type = gp__arena_alloc(&types->arena, sizeof(*type));
    if (type == NULL) {
        return gp_error_set(err, GP_ENOMEM, "the definition of a gob type");
    }
    memset(type, 0, sizeof(*type));
    atomic_init(&type->tag, NULL);
    rc = read_wire_type(&(reader){types, cursor, type, id, err});
    if (rc < 0) {
        return rc;
    }
    types->bytes += (size_t)(cursor->at - start);
    if (types->bytes > types->limits.definitions) {
        return gp__gob_corrupt(err, "the stream has more than %zu bytes of definitions",
                               types->limits.definitions);
    }
    if (gp__gob_map_add(&types->by_id, (uint64_t)id, NULL, type) < 0) {
        return gp_error_set(err, GP_ENOMEM, "the definition of a gob type");
    }
    type->older = types->defined;
    types->defined = type;
    return 0;
}

/* ---- Resolving ------------------------------------------------------------------------------- */

/* A search through the types that one refers to. */
typedef struct search {
    gp__gob_types *types;
    gp_gob_wire_type **found; /* owned; all that have been found, in that order */
    size_t count;
    size_t cap;
    bool dynamic; /* an interface has been found */
} search;

static gp_gob_wire_type *
look_up(gp__gob_types *types, int64_t id)
{
    if (id > 0 && id < GP__GOB_PREDEFINED) {
        return &types->predefined[id];
    }
    return id > 0 ? gp__gob_map_get(&types->by_id, (uint64_t)id, NULL) : NULL;
}

static int
add_found(search *it, gp_gob_wire_type *type)
{
    it->dynamic = it->dynamic || (type->resolved && type->dynamic);
    if (type->resolved || type->seen) {
        return 0;
    }
    if (it->count == it->cap) {
        size_t cap = it->cap > 0 ? it->cap * 2 : 16;
        gp_gob_wire_type **found = gp__realloc(it->found, cap * sizeof(*found));

        if (found == NULL) {
            return GP_ENOMEM;
        }
        it->found = found;
        it->cap = cap;
    }
    type->seen = true;
    it->found[it->count++] = type;
    return 0;
}

static int
link_type(search *it, int32_t id, const gp_gob_wire_type **out, gp_error *err)
{
    gp_gob_wire_type *type;

    if (id == 0) {
        return 0;
    }
    type = look_up(it->types, id);
    if (type == NULL) {
        return gp__gob_corrupt(err, "type %d is used and has not been defined", id);
    }
    *out = type;
    return add_found(it, type) < 0 ? gp_error_set(err, GP_ENOMEM, "gob types") : 0;
}

static int
link_all(search *it, gp_gob_wire_type *type, gp_error *err)
{
    int rc = link_type(it, type->element_id, &type->element, err);

    if (rc == 0) {
        rc = link_type(it, type->key_id, &type->key, err);
    }
    for (size_t i = 0; i < type->field_count && rc == 0; i++) {
        rc = link_type(it, type->fields[i].id, &type->fields[i].type, err);
    }
    return rc;
}

/*
 * All types that are found together count as dynamic if one of them is. That may be too many, which
 * costs time when messages are taken out but is right.
 */
static int
resolve(gp__gob_types *types, gp_gob_wire_type *type, gp_error *err)
{
    search it = {.types = types};
    int rc = add_found(&it, type) < 0 ? gp_error_set(err, GP_ENOMEM, "gob types") : 0;

    for (size_t i = 0; i < it.count && rc == 0; i++) {
        rc = link_all(&it, it.found[i], err);
    }
    for (size_t i = 0; i < it.count; i++) {
        it.found[i]->seen = false;
        it.found[i]->resolved = rc == 0;
        it.found[i]->dynamic = it.dynamic;
    }
    gp__free(it.found);
    return rc;
}

int
gp__gob_types_find(gp__gob_types *types, int64_t id, const gp_gob_wire_type **out, gp_error *err)
{
    gp_gob_wire_type *type = look_up(types, id);

    *out = type;
    if (type == NULL) {
        return gp__gob_corrupt(err, "type %lld is used and has not been defined", (long long)id);
    }
    return type->resolved ? 0 : resolve(types, type, err);
}
