/*
 * Values for tests of gob: trees of nodes, with a source and a sink, and a notation to compare
 * them.
 *
 *     true  -5  7u  0.5  (1,-2)  "text"  x'00ff'  Time<0f01>  [1, 2]  {"a": 1}  Point{X: 1}
 *     nil  <main.Point>Point{X: 1}
 *
 * Fields that are zero are not in the notation. An untyped value is written as a typed one.
 */
#ifndef GP_TESTS_GOB_FIXTURE_H
#define GP_TESTS_GOB_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/gob.h"

typedef struct node {
    gp_gob_kind kind; /* INTERFACE: |items[0]| of type |held|, under the name |bytes|; none: nil */
    const char *type_name;   /* of structs and opaque values; borrowed */
    const gp_gob_type *held; /* NULL: untyped */
    uint64_t number;         /* bool, int, uint */
    double real[2];
    unsigned char *bytes; /* owned; terminated by a zero that is not counted */
    size_t len;
    struct node **items;      /* owned, with what they point to; entries may be NULL */
    const char **field_names; /* owned; the names are borrowed */
    size_t count;
    struct node *chained; /* while it is freed */
} node;

/* What a source and a sink use. */
typedef struct node_world {
    struct {
        const char *name;
        const gp_gob_type *type;
    } registered[8];
    size_t count;
    long fail_after; /* the call of a source or sink that fails, counted from 1; 0: none */
    long calls;
    long opened; /* by the source, and not closed */
    long made;   /* by the sink, and not freed */
} node_world;

void register_type(node_world *world, const char *name, const gp_gob_type *type);

extern const gp_gob_source node_source; /* ctx: a node_world */
extern const gp_gob_sink node_sink;

void node_free(node_world *world, node *value);

/* The notation of a value. Lives until the next call. */
const char *node_text(const node *value);

/* ---- Types ---- */

/* They are in |group|, which fails the test if memory is short. |name| NULL: none. */
gp_gob_type *simple_type(gp_gob_group *group, gp_gob_kind kind, int bits);
gp_gob_type *opaque_type(gp_gob_group *group, const char *name, gp_gob_flavour flavour);
gp_gob_type *slice_of(gp_gob_group *group, const char *name, gp_gob_type *element);
gp_gob_type *array_of(gp_gob_group *group, const char *name, size_t length, gp_gob_type *element);
gp_gob_type *map_of(gp_gob_group *group, const char *name, gp_gob_type *key, gp_gob_type *element);
gp_gob_type *struct_type(gp_gob_group *group, const char *name);
/* The fields of a struct: names and types in turn, then NULL. */
void set_fields(gp_gob_type *type, ...);

/* ---- Bytes ---- */

/*
 * Bytes from hexadecimal digits, in which spaces do not count. The result lives until the next
 * call.
 */
const unsigned char *from_hex(const char *digits, size_t *len);

/* The hexadecimal digits of bytes. The result lives until the next call. */
const char *to_hex(const void *bytes, size_t len);

/* The bytes to send of an output, as hexadecimal digits. The result lives until the next call. */
const char *output_hex(const gp_gob_output *output);

/*
 * What the first value of a stream is when decoded into |type|, or untyped if that is NULL; or the
 * message of the error, after "error: ". Lives until the next call.
 */
const char *decoded(node_world *world, const void *bytes, size_t len, const gp_gob_type *type);

#endif
