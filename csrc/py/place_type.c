#include "gp/listen.h"
#include "py/errors.h"
#include "py/state.h"

typedef struct PlaceObject {
    PyObject_HEAD
    gp_place *place; /* owned */
} PlaceObject;

static PyObject *
place_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "", NULL};
    gp_error err = GP_ERROR_INIT;
    PyObject *directory;
    PyObject *bytes = NULL;
    PlaceObject *self;
    const char *group;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oz:SocketPlace", names, &directory, &group) ||
        (directory != Py_None && !PyUnicode_FSConverter(directory, &bytes))) {
        return NULL;
    }
    self = (PlaceObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        rc = gp_place_new(&self->place, bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL, group,
                          &err);
        if (rc < 0) {
            pygo_raise(&err, NULL);
            Py_CLEAR(self);
        }
    }
    Py_XDECREF(bytes);
    return (PyObject *)self;
}

/* The socket is not removed: a forked child has a copy of this object, too. */
static void
place_dealloc(PlaceObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->place != NULL) {
        gp_place_release(self->place);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
place_publish(PlaceObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_error err = GP_ERROR_INIT;

    if (gp_place_publish(self->place, &err) < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
place_remove(PlaceObject *self, PyObject *Py_UNUSED(ignored))
{
    gp_place_remove(self->place);
    Py_RETURN_NONE;
}

static PyObject *
place_path(PlaceObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(gp_place_path(self->place));
}

static PyObject *
place_bind(PlaceObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(gp_place_bind(self->place));
}

static PyObject *
place_target(PlaceObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(gp_place_target(self->place));
}

static PyObject *
place_directory(PlaceObject *self, void *Py_UNUSED(closure))
{
    const char *directory = gp_place_directory(self->place);

    return directory != NULL ? PyUnicode_DecodeFSDefault(directory) : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"publish", (PyCFunction)place_publish, METH_NOARGS,
     "publish($self)\n--\n\nGive the bound socket its mode, its group and its path."},
    {"remove", (PyCFunction)place_remove, METH_NOARGS,
     "remove($self)\n--\n\nRemove the socket and its private directory. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"path", (getter)place_path, NULL, "The path of the published socket.", NULL},
    {"bind", (getter)place_bind, NULL, "The path to bind the socket to.", NULL},
    {"target", (getter)place_target, NULL, "The path to bind to, for gRPC: unix:..., escaped.",
     NULL},
    {"directory", (getter)place_directory, NULL,
     "The private directory that was made for it, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, place_new},
    {Py_tp_dealloc, place_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc,
     "SocketPlace(directory, group, /)\n--\n\n"
     "The place of a unix socket of this process, from the choice of its path to its removal."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygo_plugin._core.SocketPlace",
    .basicsize = sizeof(PlaceObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
pygo_place_setup(PyObject *module, pygo_state *Py_UNUSED(state))
{
    return pygo_export_type(module, &spec);
}
