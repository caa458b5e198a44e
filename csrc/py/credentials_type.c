#include "py/credentials.h"

#include <string.h>

#include "py/errors.h"
#include "py/metadata.h"

/* The types have neither attributes nor a repr of their own, so that keys never show. */
typedef struct ChannelCredentialsObject {
    PyObject_HEAD
    gp_channel_credentials *credentials; /* owned */
} ChannelCredentialsObject;

typedef struct ServerCredentialsObject {
    PyObject_HEAD
    gp_server_credentials *credentials; /* owned */
} ServerCredentialsObject;

typedef struct CallCredentialsObject {
    PyObject_HEAD
    gp_call_credentials *credentials; /* owned */
} CallCredentialsObject;

/* ---- Arguments ---- */

static int
check_type(PyObject *object, PyTypeObject *type, const char *what, const char *makers)
{
    if (Py_TYPE(object) == type) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "%s must be made with %s, not %.100s: objects made by grpcio belong to the gRPC "
                 "core inside grpcio",
                 what, makers, Py_TYPE(object)->tp_name);
    return -1;
}

int
pygo_channel_credentials(const gp_channel_credentials **out, PyObject *object)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (check_type(object, pygo_module_state->channel_credentials_type, "channel credentials",
                   "pygo_plugin.rpc.ssl_channel_credentials or composite_channel_credentials") <
        0) {
        return -1;
    }
    *out = ((ChannelCredentialsObject *)object)->credentials;
    return 0;
}

int
pygo_server_credentials(const gp_server_credentials **out, PyObject *object)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (check_type(object, pygo_module_state->server_credentials_type, "server credentials",
                   "pygo_plugin.rpc.ssl_server_credentials") < 0) {
        return -1;
    }
    *out = ((ServerCredentialsObject *)object)->credentials;
    return 0;
}

int
pygo_call_credentials(const gp_call_credentials **out, PyObject *object)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (check_type(object, pygo_module_state->call_credentials_type, "call credentials",
                   "pygo_plugin.rpc.metadata_call_credentials, access_token_call_credentials or "
                   "composite_call_credentials") < 0) {
        return -1;
    }
    *out = ((CallCredentialsObject *)object)->credentials;
    return 0;
}

/* Refuse None. Returns 0, or -1 with a TypeError. */
static int
check_given(const void *credentials)
{
    if (credentials == NULL) {
        PyErr_SetString(PyExc_TypeError, "there must be credentials, not None");
        return -1;
    }
    return 0;
}

int
pygo_pem_text(const char **out, PyObject *object, const char *name)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be PEM bytes or None, not %.100s", name,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (strlen(PyBytes_AS_STRING(object)) != (size_t)PyBytes_GET_SIZE(object)) {
        PyErr_Format(PyExc_ValueError, "%s must be PEM, which has no zero bytes", name);
        return -1;
    }
    *out = PyBytes_AS_STRING(object);
    return 0;
}

/* ---- ChannelCredentials ---- */

static PyObject *
wrap_channel_credentials(gp_channel_credentials *credentials)
{
    PyTypeObject *type = pygo_module_state->channel_credentials_type;
    ChannelCredentialsObject *self = (ChannelCredentialsObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_channel_credentials_free(credentials);
        return NULL;
    }
    self->credentials = credentials;
    return (PyObject *)self;
}

static PyObject *
make_ssl_channel_credentials(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_channel_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    const char *roots_text;
    PyObject *roots;
    PyObject *key;
    PyObject *chain;
    gp_key_pair pair;
    int rc;

    if (!PyArg_ParseTuple(args, "OOO:ssl_channel_credentials", &roots, &key, &chain) ||
        pygo_pem_text(&roots_text, roots, "root_certificates") < 0 ||
        pygo_pem_text(&pair.private_key, key, "private_key") < 0 ||
        pygo_pem_text(&pair.certificate_chain, chain, "certificate_chain") < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_channel_credentials_ssl(
        &credentials, roots_text,
        pair.private_key != NULL || pair.certificate_chain != NULL ? &pair : NULL, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : wrap_channel_credentials(credentials);
}

static PyObject *
compose_channel_credentials(PyObject *Py_UNUSED(module), PyObject *args)
{
    const gp_channel_credentials *channel;
    const gp_call_credentials *call;
    gp_channel_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    PyObject *given_channel;
    PyObject *given_call;

    if (!PyArg_ParseTuple(args, "OO:compose_channel_credentials", &given_channel, &given_call) ||
        pygo_channel_credentials(&channel, given_channel) < 0 || check_given(channel) < 0 ||
        pygo_call_credentials(&call, given_call) < 0 || check_given(call) < 0) {
        return NULL;
    }
    return gp_channel_credentials_compose(&credentials, channel, call, &err) < 0
               ? pygo_raise(&err, NULL)
               : wrap_channel_credentials(credentials);
}

static void
channel_credentials_dealloc(ChannelCredentialsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_channel_credentials_free(self->credentials);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- ServerCredentials ---- */

/* Borrows from |pairs|, a tuple of (private key, certificate chain). NULL with an exception. */
static gp_key_pair *
make_pairs(PyObject *pairs)
{
    Py_ssize_t count = PyTuple_GET_SIZE(pairs);
    gp_key_pair *made = PyMem_Calloc((size_t)count + 1, sizeof(*made));

    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);

        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "each pair must be a tuple (private_key, "
                                             "certificate_chain)");
        } else if (pygo_pem_text(&made[i].private_key, PyTuple_GET_ITEM(pair, 0), "private_key") ==
                   0) {
            pygo_pem_text(&made[i].certificate_chain, PyTuple_GET_ITEM(pair, 1),
                          "certificate_chain");
        }
        if (PyErr_Occurred()) {
            PyMem_Free(made);
            return NULL;
        }
    }
    return made;
}

PyObject *
pygo_server_credentials_wrap(gp_server_credentials *credentials)
{
    PyTypeObject *type = pygo_module_state->server_credentials_type;
    ServerCredentialsObject *self = (ServerCredentialsObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_server_credentials_free(credentials);
        return NULL;
    }
    self->credentials = credentials;
    return (PyObject *)self;
}

static PyObject *
make_ssl_server_credentials(PyObject *Py_UNUSED(module), PyObject *args)
{
    gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    const char *roots_text;
    gp_key_pair *made;
    PyObject *pairs;
    PyObject *roots;
    int require_client;
    int rc;

    if (!PyArg_ParseTuple(args, "O!Op:ssl_server_credentials", &PyTuple_Type, &pairs, &roots,
                          &require_client) ||
        pygo_pem_text(&roots_text, roots, "root_certificates") < 0 ||
        (made = make_pairs(pairs)) == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_credentials_ssl(&credentials, made, (size_t)PyTuple_GET_SIZE(pairs), roots_text,
                                   require_client != 0, &err);
    Py_END_ALLOW_THREADS
    PyMem_Free(made);
    return rc < 0 ? pygo_raise(&err, NULL) : pygo_server_credentials_wrap(credentials);
}

static void
server_credentials_dealloc(ServerCredentialsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_server_credentials_free(self->credentials);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- CallCredentials ---- */

PyObject *
pygo_call_credentials_wrap(gp_call_credentials *credentials)
{
    PyTypeObject *type = pygo_module_state->call_credentials_type;
    CallCredentialsObject *self = (CallCredentialsObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_call_credentials_free(credentials);
        return NULL;
    }
    self->credentials = credentials;
    return (PyObject *)self;
}

static PyObject *
make_token_call_credentials(PyObject *Py_UNUSED(module), PyObject *token)
{
    gp_call_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    const char *text;
    Py_ssize_t len;

    if (!PyUnicode_Check(token)) {
        return PyErr_Format(PyExc_TypeError, "access_token must be str, not %.100s",
                            Py_TYPE(token)->tp_name);
    }
    text = PyUnicode_AsUTF8AndSize(token, &len);
    if (text == NULL) {
        return NULL;
    }
    if (strlen(text) != (size_t)len) {
        PyErr_SetString(PyExc_ValueError, "an access token must be printable ASCII");
        return NULL;
    }
    return gp_call_credentials_token(&credentials, text, &err) < 0
               ? pygo_raise(&err, NULL)
               : pygo_call_credentials_wrap(credentials);
}

static PyObject *
compose_call_credentials(PyObject *Py_UNUSED(module), PyObject *args)
{
    const gp_call_credentials *first;
    const gp_call_credentials *second;
    gp_call_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    PyObject *given_first;
    PyObject *given_second;

    if (!PyArg_ParseTuple(args, "OO:compose_call_credentials", &given_first, &given_second) ||
        pygo_call_credentials(&first, given_first) < 0 || check_given(first) < 0 ||
        pygo_call_credentials(&second, given_second) < 0 || check_given(second) < 0) {
        return NULL;
    }
    return gp_call_credentials_compose(&credentials, first, second, &err) < 0
               ? pygo_raise(&err, NULL)
               : pygo_call_credentials_wrap(credentials);
}

static void
call_credentials_dealloc(CallCredentialsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_call_credentials_free(self->credentials);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- The identity of the other side ---- */

PyObject *
pygo_auth_context_to_python(gp_auth_context *context)
{
    PyObject *properties;
    PyObject *result = NULL;

    if (context == NULL) {
        return PyErr_NoMemory();
    }
    properties = PyTuple_New((Py_ssize_t)context->properties.count);
    for (size_t i = 0; properties != NULL && i < context->properties.count; i++) {
        const gp_metadatum *item = &context->properties.items[i];
        PyObject *pair = Py_BuildValue("s#y#", item->key.data, (Py_ssize_t)item->key.len,
                                       item->value.data, (Py_ssize_t)item->value.len);

        if (pair == NULL) {
            Py_CLEAR(properties);
        } else {
            PyTuple_SET_ITEM(properties, (Py_ssize_t)i, pair);
        }
    }
    if (properties != NULL) {
        result = Py_BuildValue("zN", context->identity_key, properties);
    }
    gp_auth_context_free(context);
    return result;
}

/* ---- The types ---- */

static PyMethodDef functions[] = {
    {"ssl_channel_credentials", make_ssl_channel_credentials, METH_VARARGS,
     "ssl_channel_credentials($module, root_certificates, private_key, certificate_chain, /)\n"
     "--\n\nSee rpc.ssl_channel_credentials."},
    {"compose_channel_credentials", compose_channel_credentials, METH_VARARGS,
     "compose_channel_credentials($module, channel_credentials, call_credentials, /)\n--\n\n"
     "Channel credentials that add call_credentials to each call."},
    {"ssl_server_credentials", make_ssl_server_credentials, METH_VARARGS,
     "ssl_server_credentials($module, pairs, root_certificates, require_client_auth, /)\n--\n\n"
     "See rpc.ssl_server_credentials."},
    {"token_call_credentials", make_token_call_credentials, METH_O,
     "token_call_credentials($module, access_token, /)\n--\n\nSend an OAuth2 bearer token."},
    {"compose_call_credentials", compose_call_credentials, METH_VARARGS,
     "compose_call_credentials($module, first, second, /)\n--\n\nCredentials that send the "
     "metadata of both."},
    {NULL, NULL, 0, NULL},
};

/* Nothing of what they hold, which is secret. */
static PyObject *
credentials_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s>", pygo_short_name(Py_TYPE(self)));
}

static PyType_Slot channel_slots[] = {
    {Py_tp_dealloc, channel_credentials_dealloc},
    {Py_tp_repr, credentials_repr},
    {Py_tp_doc, "Credentials for secure_channel(). Made by ssl_channel_credentials()."},
    {0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_dealloc, server_credentials_dealloc},
    {Py_tp_repr, credentials_repr},
    {Py_tp_doc, "Credentials for add_secure_port(). Made by ssl_server_credentials()."},
    {0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_credentials_dealloc},
    {Py_tp_repr, credentials_repr},
    {Py_tp_doc, "Credentials for single calls. Made by metadata_call_credentials() and others."},
    {0, NULL},
};

static PyTypeObject *
add_type(PyObject *module, const char *name, int size, PyType_Slot *slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = size,
        .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
        .slots = slots,
    };

    return pygo_add_type(module, &spec);
}

int
pygo_credentials_setup(PyObject *module, pygo_state *state)
{
    state->channel_credentials_type =
        add_type(module, "pygo_plugin._core.ChannelCredentials",
                 (int)sizeof(ChannelCredentialsObject), channel_slots);
    state->server_credentials_type = add_type(module, "pygo_plugin._core.ServerCredentials",
                                              (int)sizeof(ServerCredentialsObject), server_slots);
    state->call_credentials_type = add_type(module, "pygo_plugin._core.CallCredentials",
                                            (int)sizeof(CallCredentialsObject), call_slots);
    if (state->channel_credentials_type == NULL || state->server_credentials_type == NULL ||
        state->call_credentials_type == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
