/* Credentials plugins, which ask_plugin() of the package calls when gRPC needs credentials. */
#include "py/callbacks.h"
#include "py/credentials.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/metadata.h"

/* The callback with which a plugin answers for one call. */
typedef struct AuthAnswerObject {
    PyObject_HEAD
    gp_auth_request *request; /* owned until answered; then NULL */
} AuthAnswerObject;

typedef struct auth_plugin {
    pygo_callback release; /* queued once, when gRPC drops the credentials */
    PyObject *plugin;      /* owned */
} auth_plugin;

typedef struct question {
    pygo_callback callback;
    PyObject *plugin;         /* borrowed: the call keeps the credentials until the answer */
    gp_auth_request *request; /* owned */
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
    /*
     * Called on a thread of gRPC, which may hold locks. Once the interpreter is ending, the
     * callback is not run, and the plugin is not freed.
     */
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
    PyObject *ask = pygo_provided(PYGO_ASK_PLUGIN);
    PyObject *url = PyUnicode_DecodeFSDefault(gp_auth_request_service_url(self->request));
    PyObject *method = PyUnicode_DecodeFSDefault(gp_auth_request_method(self->request));
    PyObject *answer = wrap_request(self->request);
    PyObject *result = NULL;

    if (ask != NULL && url != NULL && method != NULL && answer != NULL) {
        PyObject *args[] = {self->plugin, url, method, answer};

        result = pygo_gil_call_user(ask, args, 4);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(self->plugin);
    }
    Py_XDECREF(result);
    Py_XDECREF(answer); /* if ask_plugin() has not kept a reference, this fails the call */
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
    return pygo_call_credentials_wrap(credentials);
}

/* Answer the request, which must not have been answered. */
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

static PyMethodDef functions[] = {
    {"plugin_call_credentials", make_plugin_call_credentials, METH_O,
     "plugin_call_credentials($module, plugin, /)\n--\n\n"
     "Credentials for which ask_plugin() calls the plugin with each call."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef answer_getset[] = {
    {"answered", (getter)answer_answered, NULL, "Whether it has been called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot answer_slots[] = {
    {Py_tp_dealloc, answer_dealloc},
    {Py_tp_call, answer_call},
    {Py_tp_getset, answer_getset},
    {Py_tp_doc, "A grpc.AuthMetadataPluginCallback, to be called as callback(metadata, error)."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.AuthAnswer",
    .basicsize = sizeof(AuthAnswerObject),
    .flags = Py_TPFLAGS_DEFAULT | PYGO_DISALLOW_INSTANTIATION,
    .slots = answer_slots,
};

int
pygo_auth_plugin_setup(PyObject *module, pygo_state *state)
{
    state->auth_answer_type = pygo_add_type(module, &spec);
    return state->auth_answer_type != NULL ? PyModule_AddFunctions(module, functions) : -1;
}
