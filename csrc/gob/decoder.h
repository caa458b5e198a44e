/*
 * Layer: gob. A decoder: the definitions of a stream, and its messages.
 */
#ifndef GP_GOB_DECODER_H
#define GP_GOB_DECODER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/fifo.h"
#include "gob/plan.h"
#include "gob/skim.h"
#include "gob/wire_type.h"
#include "gp/gob.h"
#include "gp/lock.h"

/* decoder.c writes the fields. */
struct gp_gob_decoder {
    atomic_int refs;
    size_t depth; /* limits that need no lock */
    size_t name;
    size_t slots;

    gp_mutex lock; /* innermost: no function of a user is called with it held */
    gp__gob_types types GP_GUARDED_BY(&lock);
    gp__gob_plans plans GP_GUARDED_BY(&lock);

    /* Used by the thread that feeds. */
    size_t message;               /* limit */
    gp__fifo input;               /* what has not become part of a message yet */
    gp_error failure;             /* code 0: none */
    bool defined;                 /* a definition has come after the last value */
    bool inside;                  /* a value has begun, and continues in the next message */
    const gp_gob_wire_type *type; /* inside: of the value */
    gp__gob_skim skim;
    gp__buf body;              /* what has been taken of the value, without definitions */
    const unsigned char *kept; /* while skimming: from here on the input is part of the value */
};

/* As gp__gob_types_find() and gp__gob_plans_get(). Any thread. */
int gp__gob_decoder_find_type(gp_gob_decoder *decoder, int64_t id, const gp_gob_wire_type **out,
                              gp_error *err) GP_EXCLUDES(&decoder->lock);
int gp__gob_decoder_find_plan(gp_gob_decoder *decoder, const gp_gob_wire_type *wire,
                              const gp_gob_type *type, const gp__gob_plan **out, gp_error *err)
    GP_EXCLUDES(&decoder->lock);

#endif
