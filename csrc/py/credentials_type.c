#include "py/credentials.h"

#include <string.h>

#include "py/callbacks.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/metadata.h"

/* The three types have no attributes and no repr of their own: keys never show. */
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

/* The callback that a credentials plugin answers one call with. */
typedef struct AuthAnswerObject {
    PyObject_HEAD
    gp_auth_request *request; /* owned until answered; then NULL */
} AuthAnswerObject;

/* ---- Arguments ---- */

static int
check_type(PyObject *object, PyTypeObject *type, const char *what, const char *makers)
{
    if (Py_TYPE(object) == type) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "%s must be made with %s; %.100s is of no use here, and what grpcio makes belongs "
                 "to the gRPC core inside grpcio",
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

/* Where None will not do. */
static int
check_given(const void *credentials)
{
    if (credentials == NULL) {
        PyErr_SetString(PyExc_TypeError, "there must be credentials, not None");
        return -1;
    }
    return 0;
}

/* PEM bytes, borrowed; NULL for None. */
static int
pem_text(const char **out, PyObject *object, const char *name)
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

/* ---- Of channels ---- */

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
        pem_text(&roots_text, roots, "root_certificates") < 0 ||
        pem_text(&pair.private_key, key, "private_key") < 0 ||
        pem_text(&pair.certificate_chain, chain, "certificate_chain") < 0) {
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

/* ---- Of servers ---- */

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
        } else if (pem_text(&made[i].private_key, PyTuple_GET_ITEM(pair, 0), "private_key") == 0) {
            pem_text(&made[i].certificate_chain, PyTuple_GET_ITEM(pair, 1), "certificate_chain");
        }
        if (PyErr_Occurred()) {
            PyMem_Free(made);
            return NULL;
        }
    }
    return made;
}

static PyObject *
make_ssl_server_credentials(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type = pygo_module_state->server_credentials_type;
    gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    ServerCredentialsObject *self;
    const char *roots_text;
    gp_key_pair *made;
    PyObject *pairs;
    PyObject *roots;
    int require_client;
    int rc;

    if (!PyArg_ParseTuple(args, "O!Op:ssl_server_credentials", &PyTuple_Type, &pairs, &roots,
                          &require_client) ||
        pem_text(&roots_text, roots, "root_certificates") < 0 ||
        (made = make_pairs(pairs)) == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_credentials_ssl(&credentials, made, (size_t)PyTuple_GET_SIZE(pairs), roots_text,
                                   require_client != 0, &err);
    Py_END_ALLOW_THREADS
    PyMem_Free(made);
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    self = (ServerCredentialsObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        gp_server_credentials_free(credentials);
        return NULL;
    }
    self->credentials = credentials;
    return (PyObject *)self;
}

static void
server_credentials_dealloc(ServerCredentialsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_server_credentials_free(self->credentials);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Of calls ---- */

static PyObject *
wrap_call_credentials(gp_call_credentials *credentials)
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
               : wrap_call_credentials(credentials);
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
               : wrap_call_credentials(credentials);
}

static void
call_credentials_dealloc(CallCredentialsObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_call_credentials_free(self->credentials);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Plugins: asked on gRPC's threads, put by _credentials.ask ---- */

typedef struct auth_plugin {
    pygo_callback release; /* queued once, when gRPC is done with the credentials */
    PyObject *plugin;      /* owned */
} auth_plugin;

typedef struct question {
    pygo_callback callback;
    PyObject *plugin; /* borrowed: the call keeps the credentials until it is answered */
    gp_auth_request *request;
} question;

static void
run_release(pygo_callback *callback)
{
    auth_plugin *self = (auth_plugin *)callback;

    Py_DECREF(self->plugin);
    PyMem_RawFree(self);
}

static void
release_plugin(void *ctx)
{
    /* Not here: some thread of gRPC's may hold its locks. After the end nobody frees Python objects. */
    pygo_question_post(&((auth_plugin *)ctx)->release);
}

static PyObject *
wrap_request(gp_auth_request *request)
{
    PyTypeObject *type = pygo_module_state->auth_answer_type;
    AuthAnswerObject *self = (AuthAnswerObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_auth_request_answer(request, (gp_metadata){NULL, 0}, "out of memory");
        return NULL;
    }
    self->request = request;
    return (PyObject *)self;
}

static void
run_question(pygo_callback *callback)
{
    question *self = (question *)callback;
    PyObject *ask = pygo_late_get(PYGO_ASK_AUTH_PLUGIN);
    PyObject *url = PyUnicode_DecodeFSDefault(gp_auth_request_service_url(self->request));
    PyObject *method = PyUnicode_DecodeFSDefault(gp_auth_request_method(self->request));
    PyObject *answer = wrap_request(self->request);
    PyObject *result = NULL;

    if (ask != NULL && url != NULL && method != NULL && answer != NULL) {
        result = PyObject_CallFunctionObjArgs(ask, self->plugin, url, method, answer, NULL);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(self->plugin);
    }
    Py_XDECREF(result);
    Py_XDECREF(answer); /* without an answer, this one fails the call */
    Py_XDECREF(method);
    Py_XDECREF(url);
    PyMem_RawFree(self);
}

static bool
ask_plugin(void *ctx, gp_auth_request *request)
{
    question *asked = pygo_gil_is_open() ? PyMem_RawCalloc(1, sizeof(*asked)) : NULL;

    if (asked == NULL) {
        return false;
    }
    asked->callback.run = run_question;
    asked->plugin = ((auth_plugin *)ctx)->plugin;
    asked->request = request;
    pygo_question_post(&asked->callback);
    return true;
}

static PyObject *
make_plugin_call_credentials(PyObject *Py_UNUSED(module), PyObject *plugin)
{
    gp_call_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    auth_plugin *self;

    if (pygo_check_forked() < 0 || pygo_questions_start() < 0) {
        return NULL;
    }
    self = PyMem_RawCalloc(1, sizeof(*self));
    if (self == NULL) {
        return PyErr_NoMemory();
    }
    self->release.run = run_release;
    self->plugin = Py_NewRef(plugin);
    if (gp_call_credentials_plugin(&credentials,
                                   &(gp_auth_plugin){ask_plugin, release_plugin, self}, &err) < 0) {
        run_release(&self->release);
        return pygo_raise(&err, NULL);
    }
    return wrap_call_credentials(credentials);
}

/* Answer |self|, which must not have been answered. Steals nothing. */
static void
answer_request(AuthAnswerObject *self, gp_metadata metadata, const char *failure)
{
    gp_auth_request *request = self->request;

    self->request = NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_auth_request_answer(request, metadata, failure);
    Py_END_ALLOW_THREADS
}

static PyObject *
answer_call(AuthAnswerObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"metadata", "error", NULL};
    pygo_metadata metadata;
    PyObject *given;
    PyObject *error;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:AuthMetadataPluginCallback", names, &given,
                                     &error)) {
        return NULL;
    }
    if (self->request == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "AuthMetadataPluginCallback invoked more than once for one call");
        return NULL;
    }
    if (error != Py_None) {
        PyObject *text = PyObject_Str(error);
        const char *failure = text != NULL ? PyUnicode_AsUTF8(text) : NULL;

        if (failure != NULL && self->request != NULL) {
            answer_request(self, (gp_metadata){NULL, 0}, failure);
        }
        Py_XDECREF(text);
    } else if (pygo_metadata_from_python(&metadata, given) == 0) {
        if (self->request != NULL) {
            answer_request(self, metadata.view, NULL);
        }
        pygo_metadata_release(&metadata);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *
answer_answered(AuthAnswerObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->request == NULL);
}

static void
answer_dealloc(AuthAnswerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->request != NULL) {
        answer_request(self, (gp_metadata){NULL, 0},
                       "the credentials' plugin dropped its callback without calling it");
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Who the other side is ---- */

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
     "The channel's credentials, with the call's for each call."},
    {"ssl_server_credentials", make_ssl_server_credentials, METH_VARARGS,
     "ssl_server_credentials($module, pairs, root_certificates, require_client_auth, /)\n--\n\n"
     "See rpc.ssl_server_credentials."},
    {"token_call_credentials", make_token_call_credentials, METH_O,
     "token_call_credentials($module, access_token, /)\n--\n\nAn OAuth2 bearer token."},
    {"plugin_call_credentials", make_plugin_call_credentials, METH_O,
     "plugin_call_credentials($module, plugin, /)\n--\n\nplugin is handed to _credentials.ask for "
     "each call."},
    {"compose_call_credentials", compose_call_credentials, METH_VARARGS,
     "compose_call_credentials($module, first, second, /)\n--\n\nThe metadata of both."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef answer_getset[] = {
    {"answered", (getter)answer_answered, NULL, "whether it has been called", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_dealloc, channel_credentials_dealloc},
    {Py_tp_doc, "Credentials for secure_channel(). Made by ssl_channel_credentials()."},
    {0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_dealloc, server_credentials_dealloc},
    {Py_tp_doc, "Credentials for add_secure_port(). Made by ssl_server_credentials()."},
    {0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_credentials_dealloc},
    {Py_tp_doc, "Credentials for single calls. Made by metadata_call_credentials() and others."},
    {0, NULL},
};

static PyType_Slot answer_slots[] = {
    {Py_tp_dealloc, answer_dealloc},
    {Py_tp_call, answer_call},
    {Py_tp_getset, answer_getset},
    {Py_tp_doc, "A grpc.AuthMetadataPluginCallback, to be called as callback(metadata, error)."},
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
    state->auth_answer_type = add_type(module, "pygo_plugin._core.AuthAnswer",
                                       (int)sizeof(AuthAnswerObject), answer_slots);
    if (state->channel_credentials_type == NULL || state->server_credentials_type == NULL ||
        state->call_credentials_type == NULL || state->auth_answer_type == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
