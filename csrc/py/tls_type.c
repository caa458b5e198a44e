#include "py/tls.h"

#include "gp/credentials.h"
#include "py/credentials.h"
#include "py/errors.h"

/* The type has neither attributes nor a repr of its own, so that keys never show. */
typedef struct TLSObject {
    PyObject_HEAD
    gp_tls *tls; /* shared: ref */
} TLSObject;

int
pygo_tls(gp_tls **out, PyObject *object)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (pygo_check_type(object, pygo_module_state->tls_type) < 0) {
        return -1;
    }
    *out = ((TLSObject *)object)->tls;
    return 0;
}

/* An object around |tls|, whose reference is taken over, also on failure. */
static PyObject *
wrap_tls(PyTypeObject *type, gp_tls *tls)
{
    TLSObject *self = (TLSObject *)type->tp_alloc(type, 0);

    if (self == NULL) {
        gp_tls_unref(tls);
        return NULL;
    }
    self->tls = tls;
    return (PyObject *)self;
}

static PyObject *
tls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"roots", "certificate", "private_key", "server_name", "password", NULL};
    gp_tls_options options = {0};
    gp_error err = GP_ERROR_INIT;
    PyObject *roots = Py_None;
    PyObject *certificate = Py_None;
    PyObject *private_key = Py_None;
    gp_tls *tls;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOOzz:TLS", names, &roots, &certificate,
                                     &private_key, &options.server_name, &options.password) ||
        pygo_pem_text(&options.roots, roots, "roots") < 0 ||
        pygo_pem_text(&options.certificate, certificate, "certificate") < 0 ||
        pygo_pem_text(&options.private_key, private_key, "private_key") < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_tls_new(&tls, &options, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : wrap_tls(type, tls);
}

static PyObject *
tls_automatic(PyObject *type, PyObject *peer)
{
    gp_error err = GP_ERROR_INIT;
    const char *text;
    gp_tls *tls;
    int rc;

    if (pygo_pem_text(&text, peer, "peer") < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_tls_new_automatic(&tls, text, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : wrap_tls((PyTypeObject *)type, tls);
}

static void
tls_dealloc(TLSObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_tls_unref(self->tls);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
tls_field(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("z", gp_tls_field(self->tls));
}

static PyObject *
tls_server_credentials(TLSObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    int rc;

    Py_BEGIN_ALLOW_THREADS
    rc = gp_server_credentials_tls(&credentials, self->tls, &err);
    Py_END_ALLOW_THREADS
    return rc < 0 ? pygo_raise(&err, NULL) : pygo_server_credentials_wrap(credentials);
}

static PyMethodDef methods[] = {
    {"automatic", tls_automatic, METH_O | METH_CLASS,
     "automatic($type, peer, /)\n--\n\nAutoMTLS: a new key and certificate; trusts only peer."},
    {"field", (PyCFunction)tls_field, METH_NOARGS,
     "field($self)\n--\n\nThe certificate for the handshake line; None unless automatic."},
    {"server_credentials", (PyCFunction)tls_server_credentials, METH_NOARGS,
     "server_credentials($self)\n--\n\nFor a server. With roots, clients need a certificate."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, tls_new},
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "The certificate of one side of a connection, and the ones that it trusts."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.TLS",
    .basicsize = sizeof(TLSObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_tls_setup(PyObject *module, pygo_state *state)
{
    state->tls_type = pygo_add_type(module, &spec);
    return state->tls_type != NULL ? 0 : -1;
}
