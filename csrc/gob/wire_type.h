/*
 * Layer: gob. Types of a stream: the definitions that it has sent, and the predefined types.
 *
 * A table of them belongs to a decoder, whose lock guards it: callers hold it. The types that are
 * reachable from a resolved type do not change any more and need no lock.
 */
#ifndef GP_GOB_WIRE_TYPE_H
#define GP_GOB_WIRE_TYPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "gob/map.h"
#include "gob/wire.h"
#include "gp/gob.h"

typedef struct gp__gob_wire_field {
    const char *name; /* borrowed from the table; terminated */
    size_t len;
    int32_t id;
    const gp_gob_wire_type *type; /* borrowed from the table; NULL until resolved */
} gp__gob_wire_field;

/* wire_type.c writes the fields. Memory is the table's. */
struct gp_gob_wire_type {
    gp_gob_kind kind;
    gp_gob_flavour flavour;
    const char *name;
    size_t length; /* of an array */
    int32_t element_id;
    int32_t key_id;
    const gp_gob_wire_type *element; /* NULL until resolved */
    const gp_gob_wire_type *key;
    gp__gob_wire_field *fields;
    size_t field_count;
    bool seen;     /* resolving: it has been found */
    bool resolved; /* all types that it refers to, directly or not, are known and linked */
    bool dynamic;  /* resolved: values may contain interfaces, and so definitions */
    gp_gob_wire_type *older;           /* borrowed: the next one in the list of the table */
    _Atomic(struct gp__gob_tag *) tag; /* owned */
};

enum { GP__GOB_PREDEFINED = 9 }; /* ids 1 to 8; 0 is none */

typedef struct gp__gob_types {
    gp_gob_limits limits; /* none is 0 */
    gp__arena arena;
    gp__gob_map by_id;
    gp_gob_wire_type predefined[GP__GOB_PREDEFINED];
    gp_gob_wire_type *defined; /* borrowed from the arena; newest first */
    size_t bytes;              /* of all definitions so far */
} gp__gob_types;

/* |limits|: NULL for the defaults. */
void gp__gob_types_init(gp__gob_types *types, const gp_gob_limits *limits);
void gp__gob_types_release(gp__gob_types *types);

/*
 * Read the definition of type |id| at |cursor|, which is moved behind it.
 *
 * Returns: 0, GP_ENOMEM, or GP_EGOB.
 */
int gp__gob_types_define(gp__gob_types *types, int64_t id, gp__gob_cursor *cursor, gp_error *err);

/*
 * The type |id| with all that it refers to. Returns 0, GP_ENOMEM, or GP_EGOB if one of them has not
 * been defined.
 */
int gp__gob_types_find(gp__gob_types *types, int64_t id, const gp_gob_wire_type **out,
                       gp_error *err);

#endif
