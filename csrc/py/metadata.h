/*
 * Layer: py. Metadata between Python's pairs and the C library's.
 */
#ifndef PYGO_METADATA_H
#define PYGO_METADATA_H

#include "gp/message.h"
#include "py/state.h"

/* Metadata for the C library, and the Python objects that it points into. */
typedef struct pygo_metadata {
    gp_metadata view;
    gp_metadatum *items; /* owned */
    PyObject **owners;   /* owned, and its references: the key and the value of each item */
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
