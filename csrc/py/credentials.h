/*
 * Layer: py. Credentials as Python objects.
 */
#ifndef PYGO_CREDENTIALS_H
#define PYGO_CREDENTIALS_H

#include "gp/credentials.h"
#include "py/state.h"

/*
 * The credentials that |object| holds, borrowed from it; NULL for None. Returns 0, or -1 with a
 * TypeError that says how to make them. grpcio's credentials belong to the gRPC core inside grpcio.
 */
int pygo_channel_credentials(const gp_channel_credentials **out, PyObject *object);
int pygo_server_credentials(const gp_server_credentials **out, PyObject *object);
int pygo_call_credentials(const gp_call_credentials **out, PyObject *object);

/* New objects around |credentials|, which are taken over, also on failure. */
PyObject *pygo_call_credentials_wrap(gp_call_credentials *credentials);
PyObject *pygo_server_credentials_wrap(gp_server_credentials *credentials);

/*
 * The text of |object|, which is PEM as bytes, borrowed; NULL for None. Messages contain |name|.
 * Returns 0, or -1 with an exception.
 */
int pygo_pem_text(const char **out, PyObject *object, const char *name);

/* (identity key or None, ((name, value as bytes), ...)). Frees |context|. */
PyObject *pygo_auth_context_to_python(gp_auth_context *context);

#endif
