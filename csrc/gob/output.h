/*
 * Layer: gob. An encoded value, and the types that a stream has to know for it.
 */
#ifndef GP_GOB_OUTPUT_H
#define GP_GOB_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "gob/wire.h"
#include "gp/gob.h"

/* output.c writes the fields, apart from |message|, to which encode.c and record.c append. */
struct gp_gob_output {
    gp__buf message;           /* room for the length, then the id of the type and the value */
    size_t start;              /* where the length begins, once the message is finished */
    gp__buf definitions;       /* of the last commit */
    const gp_gob_type **roots; /* shared: types of the value, and of those in interfaces */
    size_t root_count;
    size_t root_cap;
};

/* Begin a message with a value of |type|, replacing what there was. */
int gp__gob_output_begin(gp_gob_output *output, const gp_gob_type *type, gp_error *err);

/* Add a type that the stream has to know. */
int gp__gob_output_add_root(gp_gob_output *output, const gp_gob_type *type, gp_error *err);

/* Put the length before the message. */
void gp__gob_output_finish(gp_gob_output *output);

/* Drop the contents, but not their memory if there is little of it. */
void gp__gob_output_clear(gp_gob_output *output);

/* Make room for |len| more bytes of the message. Returns 0 or GP_ENOMEM. */
static inline int
gp__gob_output_reserve(gp_gob_output *output, size_t len)
{
    gp__buf *message = &output->message;

    return message->cap - message->len >= len ? 0 : gp__buf_reserve(message, len);
}

/* Append a uint, for which there is room. */
static inline void
gp__gob_output_put(gp_gob_output *output, uint64_t value)
{
    gp__buf *message = &output->message;

    message->len += gp__gob_put_uint((unsigned char *)message->data + message->len, value);
}

#endif
