/*
 * Layer: py. Metadata between Python's pairs and the C library's.
 */
#ifndef PYGO_METADATA_H
#define PYGO_METADATA_H

#include "gp/message.h"
#include "py/state.h"

/* Python metadata as the C library wants it, with what it points into kept alive. */
typedef struct pygo_metadata {
    gp_metadata view;
    gp_metadatum *items; /* owned */
    PyObject **owners;   /* owned references: a key and a value for each item */
} pygo_metadata;

#define PYGO_METADATA_INIT {{NULL, 0}, NULL, NULL}

/*
 * Convert None, or an iterable of (key, value) pairs: keys are str, values str, or bytes for keys
 * that end in "-bin". Returns 0, or -1 with TypeError or ValueError.
 */
int pygo_metadata_from_python(pygo_metadata *out, PyObject *pairs);
void pygo_metadata_release(pygo_metadata *metadata);

/* A tuple of Metadatum(key, value); values of "-bin" keys are bytes, others str. */
PyObject *pygo_metadata_to_python(gp_metadata metadata);

#endif
