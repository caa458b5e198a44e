#include "gp/lock.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/netrpc.h"
#include "py/tls.h"

typedef struct ListenerObject {
    PyObject_HEAD
    gp_netrpc_listener *listener; /* owned */
    int port;                     /* of TCP; otherwise 0 */
    PyObject *weakrefs;
    gp_link link; /* in |listeners| */
} ListenerObject;

/* All listeners of this process, newest first. Guarded by the GIL. */
static gp_list listeners = GP_LIST_INIT(listeners);

static PyObject *
listener_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"network", "address", "services", "tls", "limits", "max_workers", NULL};
    gp_netrpc_server_options options = {0};
    gp_error err = GP_ERROR_INIT;
    gp_netrpc_services *services;
    gp_gob_limits limits;
    ListenerObject *self;
    PyObject *object;
    PyObject *tls;
    PyObject *given;
    const char *network;
    const char *address;
    gp_tls *shared;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ssOOOi:NetRpcListener", names, &network,
                                     &address, &object, &tls, &given, &options.max_workers) ||
        pygo_check_forked() < 0 || pygo_tls(&shared, tls) < 0 ||
        pygo_netrpc_limits(&limits, given) < 0) {
        return NULL;
    }
    services = pygo_netrpc_services_of(object);
    self = services != NULL ? (ListenerObject *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        return NULL;
    }
    options.limits = &limits;
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_listen(&self->listener, network, address, shared, services, &options,
                          &self->port, &err);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        self->listener = NULL;
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    } else {
        gp_list_prepend(&listeners, &self->link);
    }
    return (PyObject *)self;
}

static void
listener_dealloc(ListenerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    gp_link_remove(&self->link);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_listener_free(self->listener);
    Py_END_ALLOW_THREADS
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
listener_close(ListenerObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    gp_netrpc_listener_close(self->listener);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
listener_wait(ListenerObject *self, PyObject *timeout)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int64_t timeout_ms;
    int rc;

    if (pygo_check_forked() < 0 || pygo_timeout_ms(&timeout_ms, timeout) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = gp_netrpc_listener_wait(self->listener, gp_deadline_in(timeout_ms), interrupt);
    Py_END_ALLOW_THREADS
    return rc == GP_EUSER ? NULL : PyBool_FromLong(rc == 0);
}

void
pygo_netrpc_listeners_shutdown(void)
{
    PyObject *kept = PyList_New(0);
    ListenerObject *self = gp_list_first_entry(&listeners, ListenerObject, link);

    for (; kept != NULL && self != NULL;
         self = gp_list_next_entry(&listeners, self, ListenerObject, link)) {
        PyList_Append(kept, (PyObject *)self);
    }
    PyErr_Clear();
    for (Py_ssize_t i = 0; kept != NULL && i < PyList_GET_SIZE(kept); i++) {
        self = (ListenerObject *)PyList_GET_ITEM(kept, i);
        Py_BEGIN_ALLOW_THREADS
        gp_netrpc_listener_close(self->listener);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(kept);
}

static PyMethodDef methods[] = {
    {"close", (PyCFunction)listener_close, METH_NOARGS,
     "close($self)\n--\n\nStop listening, and end all connections. Idempotent."},
    {"wait", (PyCFunction)listener_wait, METH_O,
     "wait($self, timeout, /)\n--\n\nWait up to timeout seconds until it is closed and no method "
     "runs. Returns: whether that is so."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"port", T_INT, offsetof(ListenerObject, port), READONLY, "the port of TCP; otherwise 0"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ListenerObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, listener_new},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc,
     "NetRpcListener(network, address, services, tls, limits, max_workers)\n--\n\nServes "
     "net/rpc at an address."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.NetRpcListener",
    .basicsize = sizeof(ListenerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int
pygo_netrpc_listener_setup(PyObject *module, pygo_state *state)
{
    (void)state;
    return pygo_export_type(module, &spec);
}
