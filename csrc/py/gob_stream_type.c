#include "py/errors.h"
#include "py/gob.h"
#include "py/gob_type.h"

/* ---- GobOutput ---- */

typedef struct GobOutputObject {
    PyObject_HEAD
    gp_gob_output *output; /* owned; guarded by the GIL */
} GobOutputObject;

static PyObject *
output_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"type", "value", NULL};
    gp_error err = GP_ERROR_INIT;
    GobOutputObject *self;
    PyObject *gob_type;
    PyObject *value;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:GobOutput", names, &gob_type, &value)) {
        return NULL;
    }
    self = (GobOutputObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_gob_output_new(&self->output, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    if (self != NULL && pygo_gob_encode(gob_type, value, self->output) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
output_dealloc(GobOutputObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->output != NULL) {
        gp_gob_output_free(self->output);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot output_slots[] = {
    {Py_tp_new, output_new},
    {Py_tp_dealloc, output_dealloc},
    {Py_tp_doc, "One encoded value, for any stream."},
    {0, NULL},
};

static PyType_Spec output_spec = {
    .name = "pygo_plugin._core.GobOutput",
    .basicsize = sizeof(GobOutputObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = output_slots,
};

/* ---- GobEncoder ---- */

typedef struct GobEncoderObject {
    PyObject_HEAD
    gp_gob_encoder *encoder; /* owned; guarded by the GIL */
} GobEncoderObject;

static PyObject *
encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    GobEncoderObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":GobEncoder", names)) {
        return NULL;
    }
    self = (GobEncoderObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_gob_encoder_new(&self->encoder, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
encoder_dealloc(GobEncoderObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->encoder != NULL) {
        gp_gob_encoder_free(self->encoder);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* Both parts of an output after a commit: a new reference to bytes. */
static PyObject *
to_bytes(const gp_gob_output *output)
{
    gp_gob_part parts[2];
    PyObject *made;

    gp_gob_output_parts(output, parts);
    made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(parts[0].len + parts[1].len));
    if (made != NULL) {
        if (parts[0].len != 0) {
            memcpy(PyBytes_AS_STRING(made), parts[0].bytes, parts[0].len);
        }
        memcpy(PyBytes_AS_STRING(made) + parts[0].len, parts[1].bytes, parts[1].len);
    }
    return made;
}

static PyObject *
encoder_commit(GobEncoderObject *self, PyObject *arg)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_output *output;

    if (pygo_check_type(arg, pygo_module_state->gob_output_type) < 0) {
        return NULL;
    }
    output = ((GobOutputObject *)arg)->output;
    if (gp_gob_encoder_commit(self->encoder, output, &err) < 0) {
        return pygo_raise(&err, NULL);
    }
    return to_bytes(output);
}

static PyMethodDef encoder_methods[] = {
    {"commit", (PyCFunction)encoder_commit, METH_O,
     "commit($self, output, /)\n--\n\nThe bytes of a GobOutput, after the definitions of types "
     "that "
     "the stream lacks. They have to be sent in the order of the calls."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_methods, encoder_methods},
    {Py_tp_doc, "What one direction of a stream has defined."},
    {0, NULL},
};

static PyType_Spec encoder_spec = {
    .name = "pygo_plugin._core.GobEncoder",
    .basicsize = sizeof(GobEncoderObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = encoder_slots,
};

/* ---- GobDecoder ---- */

typedef struct GobDecoderObject {
    PyObject_HEAD
    gp_gob_decoder *decoder; /* shared: ref; fed and emptied with the GIL */
} GobDecoderObject;

static PyObject *
decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"message", "depth", "types", "definitions",
                            "fields",  "name",  "slots", NULL};
    gp_error err = GP_ERROR_INIT;
    GobDecoderObject *self;
    Py_ssize_t given[7] = {0, 0, 0, 0, 0, 0, 0};
    gp_gob_limits limits;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nnnnnnn:GobDecoder", names, &given[0],
                                     &given[1], &given[2], &given[3], &given[4], &given[5],
                                     &given[6])) {
        return NULL;
    }
    limits = (gp_gob_limits){
        .message = (size_t)given[0],
        .depth = (size_t)given[1],
        .types = (size_t)given[2],
        .definitions = (size_t)given[3],
        .fields = (size_t)given[4],
        .name = (size_t)given[5],
        .slots = (size_t)given[6],
    };
    self = (GobDecoderObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_gob_decoder_new(&self->decoder, &limits, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
decoder_dealloc(GobDecoderObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->decoder != NULL) {
        gp_gob_decoder_unref(self->decoder);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
decoder_feed(GobDecoderObject *self, PyObject *data)
{
    gp_error err = GP_ERROR_INIT;
    Py_buffer view;
    int rc;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    rc = gp_gob_decoder_feed(self->decoder, view.buf, (size_t)view.len, &err);
    PyBuffer_Release(&view);
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *
decoder_take(GobDecoderObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_message message = GP_GOB_MESSAGE_INIT;
    PyObject *type;
    PyObject *none;
    PyObject *value;
    int rc;

    if (!PyArg_ParseTuple(args, "OO:take", &type, &none)) {
        return NULL;
    }
    rc = gp_gob_decoder_next(self->decoder, &message, &err);
    if (rc < 0) {
        return pygo_raise(&err, NULL);
    }
    if (rc == 0) {
        return Py_NewRef(none);
    }
    value = pygo_gob_decode(self->decoder, &message, type);
    gp_gob_message_release(&message);
    return value;
}

static PyObject *
decoder_at_end(GobDecoderObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(gp_gob_decoder_at_end(self->decoder));
}

static PyMethodDef decoder_methods[] = {
    {"feed", (PyCFunction)decoder_feed, METH_O,
     "feed($self, data, /)\n--\n\nAdd bytes of the stream, cut anywhere."},
    {"take", (PyCFunction)decoder_take, METH_VARARGS,
     "take($self, type, none, /)\n--\n\nThe next value, as a GobType or untyped for None; `none` "
     "if "
     "more bytes are needed."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef decoder_getters[] = {
    {"at_end", (getter)decoder_at_end, NULL, "Whether the stream may end here.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot decoder_slots[] = {
    {Py_tp_new, decoder_new},
    {Py_tp_dealloc, decoder_dealloc},
    {Py_tp_methods, decoder_methods},
    {Py_tp_getset, decoder_getters},
    {Py_tp_doc, "The definitions of one direction of a stream. Limits of 0 are the defaults."},
    {0, NULL},
};

static PyType_Spec decoder_spec = {
    .name = "pygo_plugin._core.GobDecoder",
    .basicsize = sizeof(GobDecoderObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = decoder_slots,
};

int
pygo_gob_stream_setup(PyObject *module, pygo_state *state)
{
    state->gob_output_type = pygo_add_type(module, &output_spec);
    if (state->gob_output_type == NULL) {
        return -1;
    }
    if (pygo_export_type(module, &encoder_spec) < 0) {
        return -1;
    }
    return pygo_export_type(module, &decoder_spec);
}
