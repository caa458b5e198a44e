#include "gp/lock.h"
#include "py/errors.h"
#include "py/gil.h"
#include "py/message.h"
#include "py/server.h"

typedef struct SendResponseObject {
    PyObject_HEAD
    PyObject *context;               /* owned: a ServerCallObject; NULL: cleared */
    PyObject *serializer;            /* owned; NULL: cleared */
    gp_mutex lock;                   /* held while a thread sends, without the GIL */
    bool ended GP_GUARDED_BY(&lock); /* the call has been ended, or is about to be */
} SendResponseObject;

PyObject *
pygo_send_response_new(ServerCallObject *context, PyObject *serializer)
{
    PyTypeObject *type = pygo_module_state->send_response_type;
    SendResponseObject *self = (SendResponseObject *)type->tp_alloc(type, 0);

    if (self != NULL) {
        gp_mutex_init(&self->lock);
        self->context = Py_NewRef((PyObject *)context);
        self->serializer = Py_NewRef(serializer);
    }
    return (PyObject *)self;
}

static int
send_response_traverse(SendResponseObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->context);
    Py_VISIT(self->serializer);
    return 0;
}

static int
send_response_clear(SendResponseObject *self)
{
    Py_CLEAR(self->context);
    Py_CLEAR(self->serializer);
    return 0;
}

static void
send_response_dealloc(SendResponseObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    send_response_clear(self);
    gp_mutex_release(&self->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

/*
 * Wait for the replies that other threads are sending, and have later replies ignored. Returns
 * false if this was done before.
 */
static bool
stop_sending(SendResponseObject *self)
{
    bool first;

    Py_BEGIN_ALLOW_THREADS
    gp_mutex_lock(&self->lock);
    first = !self->ended;
    self->ended = true;
    gp_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS
    return first;
}

void
pygo_send_response_stop(PyObject *self)
{
    stop_sending((SendResponseObject *)self);
}

/* Send |message|, if the call has not ended. Returns 0, or GP_EUSER with an exception. */
static int
send_bytes(SendResponseObject *self, gp_server_call *call, gp_bytes message)
{
    const gp_interrupt *interrupt = pygo_interrupt();
    int rc = 0;

    Py_BEGIN_ALLOW_THREADS
    gp_mutex_lock(&self->lock);
    if (!self->ended) {
        rc = gp_server_call_send(call, message, interrupt);
    }
    gp_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS
    return rc == GP_EUSER ? rc : 0;
}

static PyObject *
send_response_call(SendResponseObject *self, PyObject *args, PyObject *kwargs)
{
    static char *argument_names[] = {"response", NULL};
    ServerCallObject *context = (ServerCallObject *)self->context;
    PyObject *response;
    PyObject *bytes;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:send_response_callback", argument_names,
                                     &response) ||
        pygo_check_forked() < 0) {
        return NULL;
    }
    if (context == NULL) { /* the garbage collector has cleared it */
        Py_RETURN_NONE;
    }
    if (response == Py_None) {
        if (stop_sending(self)) {
            pygo_server_call_end(context, NULL, GP_GRPC_OK, "");
        }
        Py_RETURN_NONE;
    }
    bytes = pygo_serialize(self->serializer, response);
    if (bytes == NULL) {
        if (stop_sending(self)) {
            pygo_servicer_fail_to_serialize(context);
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    rc = send_bytes(self, context->call, pygo_bytes_view(bytes));
    Py_DECREF(bytes);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, send_response_dealloc},
    {Py_tp_traverse, send_response_traverse},
    {Py_tp_clear, send_response_clear},
    {Py_tp_call, send_response_call},
    {Py_tp_doc,
     "Called with a reply it sends it, called with None it ends the call. Later calls are ignored. "
     "For any thread. Made by the server."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.SendResponse",
    .basicsize = sizeof(SendResponseObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | PYGO_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
pygo_send_response_setup(PyObject *module, pygo_state *state)
{
    state->send_response_type = pygo_add_type(module, &spec);
    return state->send_response_type != NULL ? 0 : -1;
}
