/*
 * Layer: gob. Walks over encoded values without making any: to skip them, and to find the
 * definitions that interface values in them contain.
 *
 * An interface value is: its name, definitions, the id of a type, a length, and a value of the
 * type. Each definition is followed by a length, or by the end of a message: the value then
 * continues in the next message of the stream.
 */
#ifndef GP_GOB_SKIM_H
#define GP_GOB_SKIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gob/wire.h"
#include "gob/wire_type.h"

typedef struct gp__gob_skim_ops {
    /* As gp__gob_types_find(). */
    int (*find)(void *ctx, int64_t id, const gp_gob_wire_type **out, gp_error *err);
    /*
     * Read the definition of type |id|, and the length behind it if that is in the same message.
     * |start| is where the number before it begins. NULL: values have no definitions in them.
     */
    int (*define)(void *ctx, int64_t id, const unsigned char *start, gp__gob_cursor *cursor,
                  gp_error *err);
} gp__gob_skim_ops;

/* A value that has been entered. */
typedef struct gp__gob_skim_frame {
    const gp_gob_wire_type *type; /* borrowed */
    uint64_t left;                /* elements, or keys and elements, that follow */
    size_t field;                 /* of a struct: how many fields have been passed */
} gp__gob_skim_frame;

/* Written by skim.c alone. */
typedef struct gp__gob_skim {
    const gp__gob_skim_ops *ops;
    void *ctx;
    size_t depth;               /* limit: values within each other */
    size_t name;                /* limit: bytes of the name of what an interface holds */
    gp__gob_skim_frame *frames; /* owned */
    size_t count;
    size_t cap;
} gp__gob_skim;

void gp__gob_skim_init(gp__gob_skim *skim, const gp__gob_skim_ops *ops, void *ctx, size_t depth,
                       size_t name);
void gp__gob_skim_release(gp__gob_skim *skim);

/*
 * Walk over a value of |type|, which is resolved, as a field or an element; |top|: as the value of
 * a message, where a 0 is before what is no struct.
 *
 * Returns: 1 at its end; 0 if it continues in the next message: gp__gob_skim_continue() then;
 * GP_ENOMEM or GP_EGOB.
 */
int gp__gob_skim_value(gp__gob_skim *skim, const gp_gob_wire_type *type, bool top,
                       gp__gob_cursor *cursor, gp_error *err);
int gp__gob_skim_continue(gp__gob_skim *skim, gp__gob_cursor *cursor, gp_error *err);

/* Record that a value is cut short or garbled. Returns GP_EGOB. */
int gp__gob_refuse_bytes(gp_error *err, const gp_gob_wire_type *type);

#endif
