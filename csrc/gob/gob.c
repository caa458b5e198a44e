/* What types are asked for, and what they are called. */
#include "gp/gob.h"

#include <stdio.h>
#include <string.h>

#include "gob/type.h"
#include "gob/wire_type.h"

/* ---- Questions ------------------------------------------------------------------------------- */

gp_gob_kind
gp_gob_type_kind(const gp_gob_type *type)
{
    return type->kind;
}

int
gp_gob_type_bits(const gp_gob_type *type)
{
    return type->bits;
}

const char *
gp_gob_type_name(const gp_gob_type *type)
{
    return type->name;
}

const gp_gob_type *
gp_gob_type_element(const gp_gob_type *type)
{
    return type->element;
}

const gp_gob_type *
gp_gob_type_key(const gp_gob_type *type)
{
    return type->key;
}

size_t
gp_gob_type_length(const gp_gob_type *type)
{
    return type->length;
}

gp_gob_flavour
gp_gob_type_flavour(const gp_gob_type *type)
{
    return type->flavour;
}

void *
gp_gob_type_tag(const gp_gob_type *type)
{
    return type->tag;
}

size_t
gp_gob_type_fields(const gp_gob_type *type)
{
    return type->field_count;
}

const char *
gp_gob_type_field_name(const gp_gob_type *type, size_t index)
{
    return type->fields[index].name;
}

const gp_gob_type *
gp_gob_type_field(const gp_gob_type *type, size_t index)
{
    return type->fields[index].type;
}

gp_gob_kind
gp_gob_wire_type_kind(const gp_gob_wire_type *type)
{
    return type->kind;
}

gp_gob_flavour
gp_gob_wire_type_flavour(const gp_gob_wire_type *type)
{
    return type->flavour;
}

const char *
gp_gob_wire_type_name(const gp_gob_wire_type *type)
{
    return type->name;
}

const gp_gob_wire_type *
gp_gob_wire_type_element(const gp_gob_wire_type *type)
{
    return type->element;
}

const gp_gob_wire_type *
gp_gob_wire_type_key(const gp_gob_wire_type *type)
{
    return type->key;
}

size_t
gp_gob_wire_type_length(const gp_gob_wire_type *type)
{
    return type->length;
}

size_t
gp_gob_wire_type_fields(const gp_gob_wire_type *type)
{
    return type->field_count;
}

const char *
gp_gob_wire_type_field_name(const gp_gob_wire_type *type, size_t index)
{
    return type->fields[index].name;
}

const gp_gob_wire_type *
gp_gob_wire_type_field(const gp_gob_wire_type *type, size_t index)
{
    return type->fields[index].type;
}

/* ---- Names ----------------------------------------------------------------------------------- */

/* What both sorts of types have in common. */
typedef struct shape {
    gp_gob_kind kind;
    gp_gob_flavour flavour;
    const char *simple; /* the name of a type without elements */
    size_t length;
    const void *element;
    const void *key;
} shape;

typedef shape look_fn(const void *type);

/* As Go calls its types. */
static const char *
name_of_number(gp_gob_kind kind, int bits)
{
    static const char *const ints[] = {"int8", "int16", "int32", "int"};
    static const char *const uints[] = {"uint8", "uint16", "uint32", "uint"};
    int index = bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;

    switch (kind) {
    case GP_GOB_INT:
        return ints[index];
    case GP_GOB_UINT:
        return uints[index];
    case GP_GOB_FLOAT:
        return bits == 32 ? "float32" : "float64";
    default:
        return bits == 32 ? "complex64" : "complex128";
    }
}

static shape
look_at_type(const void *pointer)
{
    const gp_gob_type *type = pointer;
    shape it = {type->kind, type->flavour, "", type->length, type->element, type->key};

    switch (type->kind) {
    case GP_GOB_BOOL:
        it.simple = "bool";
        break;
    case GP_GOB_BYTES:
        it.simple = "[]uint8";
        break;
    case GP_GOB_STRING:
        it.simple = "string";
        break;
    case GP_GOB_INTERFACE:
        it.simple = "interface {}";
        break;
    case GP_GOB_STRUCT:
    case GP_GOB_OPAQUE:
        it.simple = type->name != NULL ? type->name : "struct";
        break;
    default:
        it.simple = name_of_number(type->kind, type->bits);
        break;
    }
    return it;
}

/* As Go calls the types of a stream, in which numbers have no width. */
static shape
look_at_wire_type(const void *pointer)
{
    static const char *const predefined[] = {
        [GP_GOB_BOOL] = "bool",       [GP_GOB_INT] = "int",
        [GP_GOB_UINT] = "uint",       [GP_GOB_FLOAT] = "float",
        [GP_GOB_BYTES] = "bytes",     [GP_GOB_STRING] = "string",
        [GP_GOB_COMPLEX] = "complex", [GP_GOB_INTERFACE] = "interface",
    };
    const gp_gob_wire_type *type = pointer;
    shape it = {type->kind, type->flavour, "", type->length, type->element, type->key};

    if (type->kind <= GP_GOB_INTERFACE) {
        it.simple = predefined[type->kind];
    } else {
        it.simple = type->name[0] != '\0' ? type->name : "struct";
    }
    return it;
}

enum { DEEPEST = 8 };

/* Write to |out| and return how much, as snprintf(). */
static size_t
spell(char *out, size_t size, const void *type, look_fn *look, int depth)
{
    shape it;
    size_t len = 0;

    if (type == NULL || depth > DEEPEST) {
        return (size_t)snprintf(out, size, "...");
    }
    it = look(type);
    switch (it.kind) {
    case GP_GOB_ARRAY:
        len = (size_t)snprintf(out, size, "[%zu]", it.length);
        break;
    case GP_GOB_SLICE:
        len = (size_t)snprintf(out, size, "[]");
        break;
    case GP_GOB_MAP:
        len = (size_t)snprintf(out, size, "map[");
        if (len < size) {
            len += spell(out + len, size - len, it.key, look, depth + 1);
        }
        if (len < size) {
            len += (size_t)snprintf(out + len, size - len, "]");
        }
        break;
    default:
        return (size_t)snprintf(out, size, "%s", it.simple);
    }
    return len < size ? len + spell(out + len, size - len, it.element, look, depth + 1) : len;
}

static const char *
spell_type(const void *type, look_fn *look, char *out, size_t size)
{
    if (spell(out, size, type, look, 0) >= size) {
        memcpy(out + size - sizeof("..."), "...", sizeof("..."));
    }
    return out;
}

const char *
gp_gob_type_spell(const gp_gob_type *type, char out[GP_GOB_SPELLED])
{
    return spell_type(type, look_at_type, out, GP_GOB_SPELLED);
}

const char *
gp_gob_wire_type_spell(const gp_gob_wire_type *type, char out[GP_GOB_SPELLED])
{
    return spell_type(type, look_at_wire_type, out, GP_GOB_SPELLED);
}

static const char *
describe(gp_gob_kind kind, gp_gob_flavour flavour, const char *spelled, char out[GP__GOB_DESCRIBED])
{
    static const char *const flavours[] = {"GobEncoder", "BinaryMarshaler", "TextMarshaler"};
    const char *article = "a ";

    switch (kind) {
    case GP_GOB_INT:
    case GP_GOB_INTERFACE:
        article = "an ";
        break;
    case GP_GOB_BYTES:
        article = "";
        break;
    case GP_GOB_STRUCT:
        article = strcmp(spelled, "struct") == 0 ? "a " : "the struct ";
        break;
    case GP_GOB_OPAQUE:
        snprintf(out, GP__GOB_DESCRIBED, "the %s %s", flavours[flavour],
                 strcmp(spelled, "struct") == 0 ? "without a name" : spelled);
        return out;
    default:
        break;
    }
    snprintf(out, GP__GOB_DESCRIBED, "%s%s", article, spelled);
    return out;
}

const char *
gp__gob_type_describe(const gp_gob_type *type, char out[GP__GOB_DESCRIBED])
{
    char spelled[GP_GOB_SPELLED];

    /* Without a width, where it is the largest one, and by the name that the stream has. */
    switch (type->kind) {
    case GP_GOB_FLOAT:
        return describe(type->kind, 0, type->bits == 32 ? "float32" : "float", out);
    case GP_GOB_COMPLEX:
        return describe(type->kind, 0, type->bits == 32 ? "complex64" : "complex", out);
    case GP_GOB_BYTES:
        return describe(type->kind, 0, "bytes", out);
    case GP_GOB_INTERFACE:
        return describe(type->kind, 0, "interface", out);
    default:
        return describe(type->kind, type->flavour, gp_gob_type_spell(type, spelled), out);
    }
}

const char *
gp__gob_wire_type_describe(const gp_gob_wire_type *type, char out[GP__GOB_DESCRIBED])
{
    char spelled[GP_GOB_SPELLED];

    return describe(type->kind, type->flavour, gp_gob_wire_type_spell(type, spelled), out);
}
