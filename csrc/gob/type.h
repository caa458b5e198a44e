/*
 * Layer: gob. Types of the program, and what of them is sent.
 */
#ifndef GP_GOB_TYPE_H
#define GP_GOB_TYPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/gob.h"

/* The first id that is given here. Go begins with 64 or 65, depending on its version. */
enum { GP__GOB_FIRST_ID = 65 };

/* The bytes that define a type in a stream: a whole message, with its length. */
typedef struct gp__gob_definition {
    size_t len;
    unsigned char bytes[];
} gp__gob_definition;

typedef struct gp__gob_member_type {
    const char *name; /* owned by the group's arena */
    size_t len;
    gp_gob_type *type; /* borrowed: its group outlives this one */
} gp__gob_member_type;

/*
 * type.c writes the fields, but for those at the end, which definition.c writes. Memory is of
 * the group's arena.
 */
struct gp_gob_type {
    gp_gob_kind kind;
    int bits;
    gp_gob_flavour flavour;
    bool complete;    /* not a struct, or it has been given its fields */
    const char *name; /* NULL: none */
    gp_gob_type *element;
    gp_gob_type *key;
    size_t length;
    gp__gob_member_type *fields;
    size_t field_count;
    void *tag;                    /* borrowed by contract of gp/gob.h */
    const gp_gob_member *members; /* borrowed: of a record, else NULL */
    gp_gob_group *group;          /* borrowed: lives as long */
    gp_gob_type *older;           /* borrowed: the next one in the list of the group */

    /* Written by definition.c, guarded by gp__fork_hold() until |defined| is set. */
    int32_t id;         /* 0: none yet */
    unsigned walk;      /* the last walk that has been here */
    bool is_field;      /* found first as the type of a field: its spelling is its name then */
    gp_gob_type *later; /* borrowed: the next type that the walk has found without a definition */
    gp__gob_definition *definition; /* owned; NULL: none yet */
    atomic_bool defined; /* this type, and all types that it refers to, have definitions */
};

/* The id of a type that needs no definition, or 0. */
int32_t gp__gob_predefined_id(gp_gob_kind kind);

/* The id that identifies |type| in every stream. It must have been defined, if it has to be. */
int32_t gp__gob_type_id(const gp_gob_type *type);

/* Whether streams have to define the type. */
bool gp__gob_type_is_defined(const gp_gob_type *type);

/*
 * Make sure that |type| and all it refers to have ids and definitions. Any thread.
 *
 * Returns: 0, GP_ENOMEM, or GP_EINVAL if a struct has not been given its fields, or if there are no
 * ids left.
 */
int gp__gob_type_define(const gp_gob_type *type, gp_error *err);

/* What a type is called after "has" in messages: "a string", "the struct Order". Returns |out|. */
enum { GP__GOB_DESCRIBED = GP_GOB_SPELLED + 24 };
const char *gp__gob_type_describe(const gp_gob_type *type, char out[GP__GOB_DESCRIBED]);
const char *gp__gob_wire_type_describe(const gp_gob_wire_type *type, char out[GP__GOB_DESCRIBED]);

#endif
