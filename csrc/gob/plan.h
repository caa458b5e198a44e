/*
 * Layer: gob. How to decode a type of a stream into a type of the program, compiled once for each
 * pair.
 *
 * Plans refer to each other as the types do, also in circles. They belong to a decoder, whose lock
 * is held when they are asked for; a plan that has been handed out, and all that it refers to, does
 * not change any more and needs no lock.
 */
#ifndef GP_GOB_PLAN_H
#define GP_GOB_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "gob/map.h"
#include "gob/wire_type.h"
#include "gp/gob.h"

typedef struct gp__gob_plan gp__gob_plan;

/* A field of the stream's struct. */
typedef struct gp__gob_step {
    gp__gob_plan *plan; /* NULL: the program does not have it */
    size_t slot;        /* which field of the program's struct it is */
} gp__gob_step;

/* plan.c writes the fields. Memory is of the arena of the plans. */
struct gp__gob_plan {
    gp_gob_kind kind;
    bool mismatch;                /* the types are not compatible, whatever is in them */
    bool nothing_common;          /* structs with fields, but none with the same name */
    bool faulty;                  /* it is a mismatch, or contains one */
    const gp_gob_type *type;      /* shared; NULL: untyped */
    const gp_gob_wire_type *wire; /* borrowed from the decoder */
    const gp__gob_plan *element;
    const gp__gob_plan *key;
    gp__gob_step *steps; /* as many as the stream's struct has fields */
    size_t slots;        /* fields of the program's struct */

    /* For the compiler. */
    const gp__gob_plan *culprit;    /* faulty: the plan within that is to blame; NULL: itself */
    size_t culprit_at;              /* the number of its step, or one of the constants in plan.c */
    struct gp__gob_parent *parents; /* plans that contain this one */
    gp__gob_plan *next;             /* to be compiled after this one */
    gp__gob_plan *next_blamed;      /* whose parents are to be blamed after those of this one */
    gp__gob_plan *older;            /* the one made before it */
};

typedef struct gp__gob_plans {
    gp__arena arena;
    gp__gob_map by_types;
    gp__gob_plan *newest;
    gp__gob_plan *pending; /* to be compiled */
    size_t most;           /* limit: bytes of |arena| */
} gp__gob_plans;

/* |most|: how much memory all plans may take. */
void gp__gob_plans_init(gp__gob_plans *plans, size_t most);
void gp__gob_plans_release(gp__gob_plans *plans);

/*
 * The plan for a pair of types. |wire| is resolved; |type| may be NULL.
 *
 * Returns: 0, GP_ENOMEM, or GP_EGOB if plans would take too much memory, which is only so if the
 * stream has values of a great many types in interfaces, under a great many names.
 */
int gp__gob_plans_get(gp__gob_plans *plans, const gp_gob_wire_type *wire, const gp_gob_type *type,
                      const gp__gob_plan **out, gp_error *err);

/*
 * Record why a faulty plan cannot be used, with the path of the types that do not fit. |path| leads
 * to the value; it is released. Returns GP_EGOB.
 */
int gp__gob_plan_refuse(const gp__gob_plan *plan, gp__buf *path, gp_error *err);

/*
 * The same for a plan with |nothing_common|, as Go refuses it for values of messages and
 * interfaces.
 */
int gp__gob_plan_refuse_strangers(const gp__gob_plan *plan, gp__buf *path, gp_error *err);

#endif
