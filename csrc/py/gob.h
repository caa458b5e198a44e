/*
 * Layer: py. gob for the other files of the glue: values of Python into messages, and the reverse.
 * gob_type.h is the map of the files behind it.
 */
#ifndef PYGO_GOB_H
#define PYGO_GOB_H

#include "gp/gob.h"
#include "py/state.h"

/* The type in a GobType, borrowed from it; NULL with TypeError. */
const gp_gob_type *pygo_gob_type_of(PyObject *gob_type);

/*
 * Encode |value| as |gob_type|, a GobType, into |out|. With the GIL; runs code of the user, so no
 * lock may be held. Returns 0, or -1 with an exception.
 */
int pygo_gob_encode(PyObject *gob_type, PyObject *value, gp_gob_output *out);

/*
 * Decode a message into an object of |gob_type|, a GobType, or untyped if that is None. With the
 * GIL; runs code of the user, so no lock may be held. The decoder may be freed without the GIL,
 * also with locks held.
 *
 * Returns: a new reference, or NULL with an exception.
 */
PyObject *pygo_gob_decode(gp_gob_decoder *decoder, const gp_gob_message *message,
                          PyObject *gob_type);

#endif
