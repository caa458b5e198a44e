/*
 * gob -> objects of Python. Functions that get values take them over only if they succeed: they
 * first put them into their object with references of their own, and drop those of the decoder
 * last.
 */
#include "py/gob.h"

#include <stdatomic.h>

#include "py/errors.h"
#include "py/gob_type.h"

/* ---- Plain values ---- */

/*
 * |made|, or for a type with a class of its own |cls|(|made|), which may refuse the value. Takes
 * |made| over, which is NULL with an exception if it could not be made.
 */
static int
hand_out(GobContext *context, const gp_gob_type *type, PyObject *made, void **out)
{
    PyObject *cls = type != NULL ? gob_tag(type)->cls : NULL;

    if (made != NULL && cls != NULL) {
        PyObject *converted = PyObject_CallFunctionObjArgs(cls, made, NULL);

        if (converted == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
            pygo_gob_refuse(context, "%.100R is no %.100s", made,
                            PyType_Check(cls) ? ((PyTypeObject *)cls)->tp_name : "value");
        }
        Py_SETREF(made, converted);
    }
    *out = made;
    return made != NULL ? 0 : GP_EUSER;
}

static int
make_bool(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type), bool value, void **out)
{
    *out = PyBool_FromLong(value);
    return 0;
}

static int
make_int(void *ctx, const gp_gob_type *type, int64_t value, void **out)
{
    return hand_out(ctx, type, PyLong_FromLongLong(value), out);
}

static int
make_uint(void *ctx, const gp_gob_type *type, uint64_t value, void **out)
{
    return hand_out(ctx, type, PyLong_FromUnsignedLongLong(value), out);
}

static int
make_float(void *ctx, const gp_gob_type *type, double value, void **out)
{
    return hand_out(ctx, type, PyFloat_FromDouble(value), out);
}

static int
make_complex(void *ctx, const gp_gob_type *type, const double value[2], void **out)
{
    return hand_out(ctx, type, PyComplex_FromDoubles(value[0], value[1]), out);
}

static int
make_bytes(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    return hand_out(ctx, type, PyBytes_FromStringAndSize(bytes, (Py_ssize_t)len), out);
}

/*
 * Go does not ask for UTF-8: bytes that are none become lone surrogates, and the same bytes again.
 */
static PyObject *
to_str(const void *bytes, size_t len)
{
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)len, "surrogateescape");
}

static int
make_string(void *ctx, const gp_gob_type *type, const void *bytes, size_t len, void **out)
{
    return hand_out(ctx, type, to_str(bytes, len), out);
}

/* ---- Opaque values ---- */

/* The flavours as kinds.py has them. */
static const char *const flavours[] = {
    [GP_GOB_ENCODER] = "gob",
    [GP_GOB_BINARY] = "binary",
    [GP_GOB_TEXT] = "text",
};

static int
make_untyped_opaque(GobContext *context, const gp_gob_wire_type *wire, const void *bytes,
                    size_t len, void **out)
{
    const char *name = gp_gob_wire_type_name(wire);
    gp_gob_flavour flavour = gp_gob_wire_type_flavour(wire);
    PyObject *cls;

    if (flavour == GP_GOB_ENCODER && strcmp(name, "Time") == 0 && pygo_gob_is_time(bytes, len)) {
        cls = pygo_provided(PYGO_TIME);
        if (cls == NULL) {
            return GP_EUSER;
        }
        return pygo_gob_time_decode(context, cls, bytes, len, (PyObject **)out);
    }
    cls = pygo_provided(PYGO_OPAQUE);
    *out = cls != NULL ? PyObject_CallFunction(cls, "Nsy#", to_str(name, strlen(name)),
                                               flavours[flavour], bytes, (Py_ssize_t)len)
                       : NULL;
    return *out != NULL ? 0 : GP_EUSER;
}

static int
make_opaque(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, const void *bytes,
            size_t len, void **out)
{
    GobTypeObject *tag;
    PyObject *data;

    if (type == NULL) {
        return make_untyped_opaque(ctx, wire, bytes, len, out);
    }
    tag = gob_tag(type);
    if (tag->role == GOB_TIME) {
        return pygo_gob_time_decode(ctx, tag->cls, bytes, len, (PyObject **)out);
    }
    data = gp_gob_type_flavour(type) == GP_GOB_TEXT
               ? to_str(bytes, len)
               : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)len);
    *out = data != NULL ? PyObject_CallFunctionObjArgs(tag->decode, data, NULL) : NULL;
    Py_XDECREF(data);
    return *out != NULL ? 0 : pygo_gob_user_error(ctx);
}

/* ---- Sequences and maps ---- */

static int
make_items(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *items,
           size_t count, void **out)
{
    gp_gob_kind kind = type != NULL ? gp_gob_type_kind(type) : gp_gob_wire_type_kind(wire);
    PyObject *cls = type != NULL ? gob_tag(type)->cls : NULL;
    bool tuple = cls == NULL ? kind == GP_GOB_ARRAY : cls == (PyObject *)&PyTuple_Type;
    PyObject *made = tuple ? PyTuple_New((Py_ssize_t)count) : PyList_New((Py_ssize_t)count);
    size_t i;

    (void)ctx;
    if (made == NULL) {
        return GP_EUSER;
    }
    for (i = 0; i < count; i++) {
        if (tuple) {
            PyTuple_SET_ITEM(made, (Py_ssize_t)i, (PyObject *)items[i]);
        } else {
            PyList_SET_ITEM(made, (Py_ssize_t)i, (PyObject *)items[i]);
        }
    }
    *out = made;
    return 0;
}

static int
make_map(void *ctx, const gp_gob_type *Py_UNUSED(type), const gp_gob_wire_type *Py_UNUSED(wire),
         void *const *items, size_t count, void **out)
{
    PyObject *made = PyDict_New();
    size_t i;

    if (made == NULL) {
        return GP_EUSER;
    }
    for (i = 0; i < count; i++) {
        PyObject *key = items[2 * i];

        if (PyDict_SetItem(made, key, items[2 * i + 1]) < 0) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) { /* it has no hash */
                pygo_gob_refuse(ctx, "a %.100s cannot be the key of a dict", Py_TYPE(key)->tp_name);
            }
            Py_DECREF(made);
            return GP_EUSER;
        }
    }
    for (i = 0; i < 2 * count; i++) {
        Py_DECREF((PyObject *)items[i]);
    }
    *out = made;
    return 0;
}

/* ---- Zero values ---- */

static PyObject *
zero_array(GobContext *context, GobTypeObject *type)
{
    PyObject *items = type->cls == (PyObject *)&PyList_Type ? PyList_New(type->length)
                                                            : PyTuple_New(type->length);
    Py_ssize_t i;

    for (i = 0; items != NULL && i < type->length; i++) {
        PyObject *item = pygo_gob_zero(context, type->element);

        if (item == NULL) {
            Py_CLEAR(items);
        } else if (PyTuple_Check(items)) {
            PyTuple_SET_ITEM(items, i, item);
        } else {
            PyList_SET_ITEM(items, i, item);
        }
    }
    return items;
}

static int make_struct(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire,
                       void *const *fields, void **out);

PyObject *
pygo_gob_zero(GobContext *context, GobTypeObject *type)
{
    static const double nothing[2] = {0, 0};
    /* Go's zero time: version 1, second 0 of year 1, in UTC. */
    static const unsigned char zero_time[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    void *made = NULL;
    bool share = true;

    if (type->optional || type->kind == GP_GOB_INTERFACE || type->role == GOB_NONE) {
        return Py_NewRef(Py_None);
    }
    if (type->empty != NULL) {
        return Py_NewRef(type->empty);
    }
    switch (type->kind) {
    case GP_GOB_BOOL:
        return Py_NewRef(Py_False);
    case GP_GOB_INT:
        make_int(context, type->type, 0, &made);
        break;
    case GP_GOB_UINT:
        make_uint(context, type->type, 0, &made);
        break;
    case GP_GOB_FLOAT:
        make_float(context, type->type, 0, &made);
        break;
    case GP_GOB_COMPLEX:
        make_complex(context, type->type, nothing, &made);
        break;
    case GP_GOB_BYTES:
        make_bytes(context, type->type, "", 0, &made);
        share = type->cls == NULL; /* a bytearray can change */
        break;
    case GP_GOB_STRING:
        make_string(context, type->type, "", 0, &made);
        break;
    case GP_GOB_OPAQUE:
        if (type->role == GOB_TIME) {
            pygo_gob_time_decode(context, type->cls, zero_time, sizeof(zero_time),
                                 (PyObject **)&made);
        } else {
            made = PyObject_CallFunctionObjArgs(type->zero, NULL);
            if (made == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
                pygo_gob_refuse(context,
                                "the stream leaves it out, and %.100R makes no zero value: make it "
                                "Optional, or give its Codec one",
                                type->zero);
            }
            share = false;
        }
        break;
    case GP_GOB_SLICE:
        return type->cls == (PyObject *)&PyTuple_Type ? PyTuple_New(0) : PyList_New(0);
    case GP_GOB_MAP:
        return PyDict_New();
    case GP_GOB_ARRAY:
        made = zero_array(context, type);
        share = made != NULL && PyTuple_Check((PyObject *)made) &&
                type->element->kind <= GP_GOB_STRING && type->element->cls == NULL;
        break;
    case GP_GOB_STRUCT:
        make_struct(context, type->type, NULL, NULL, &made);
        share = false;
        break;
    default:
        break;
    }
    if (made != NULL && share) {
        type->empty = Py_NewRef((PyObject *)made);
    }
    return made;
}

/* ---- Structs ---- */

/* Set the attributes that are not encoded. Returns 0, or -1 with an exception. */
static int
set_hidden(PyObject *object, const GobTypeObject *tag)
{
    Py_ssize_t i;

    for (i = 0; i < tag->hidden_count; i++) {
        const GobHidden *hidden = &tag->hidden[i];
        PyObject *value = NULL;
        int rc;

        if (hidden->value != NULL) {
            value = Py_NewRef(hidden->value);
        } else if (hidden->factory != NULL) {
            value = PyObject_CallFunctionObjArgs(hidden->factory, NULL);
            if (value == NULL) {
                return -1;
            }
        } else {
            continue;
        }
        rc = PyObject_GenericSetAttr(object, hidden->attribute, value);
        Py_DECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/*
 * Set one field. |value| is borrowed; NULL stands for zero. Frozen classes have a __setattr__ that
 * refuses, so it is not used.
 */
static int
set_field(GobContext *context, PyObject *object, const GobField *field, PyObject *value)
{
    PyObject *held;
    int rc;

    if (value != NULL) {
        return PyObject_GenericSetAttr(object, field->attribute, value);
    }
    held = field->optional ? Py_NewRef(Py_None) : pygo_gob_zero(context, field->type);
    if (held == NULL) {
        return -1;
    }
    rc = PyObject_GenericSetAttr(object, field->attribute, held);
    Py_DECREF(held);
    return rc;
}

/* The stream's definition of a struct, for untyped objects. */
typedef struct Definition {
    PyObject *object;        /* owned: a StructType */
    struct Definition *next; /* owned; in |unused| */
} Definition;

/* Those of decoders that have been freed, perhaps without the GIL. */
static _Atomic(Definition *) unused;

static void
release_definition(void *tag)
{
    Definition *definition = tag;

    definition->next = atomic_load(&unused);
    while (!atomic_compare_exchange_weak(&unused, &definition->next, definition)) {
    }
}

static void
free_unused(void)
{
    Definition *definition = atomic_load_explicit(&unused, memory_order_relaxed) != NULL
                                 ? atomic_exchange(&unused, NULL)
                                 : NULL;

    while (definition != NULL) {
        Definition *next = definition->next;

        Py_DECREF(definition->object);
        PyMem_RawFree(definition);
        definition = next;
    }
}

/* Make the StructType of |wire|: a new reference, or NULL with an exception. */
static PyObject *
make_struct_type(const gp_gob_wire_type *wire)
{
    PyObject *cls = pygo_provided(PYGO_STRUCT_TYPE);
    const char *name = gp_gob_wire_type_name(wire);
    size_t count = gp_gob_wire_type_fields(wire);
    PyObject *names = cls != NULL ? PyTuple_New((Py_ssize_t)count) : NULL;
    PyObject *kinds = names != NULL ? PyTuple_New((Py_ssize_t)count) : NULL;
    PyObject *made = NULL;
    size_t i;

    for (i = 0; kinds != NULL && i < count; i++) {
        const char *field = gp_gob_wire_type_field_name(wire, i);
        PyObject *text = to_str(field, strlen(field));
        PyObject *kind = PyLong_FromLong(gp_gob_wire_type_kind(gp_gob_wire_type_field(wire, i)));

        if (text == NULL || kind == NULL) {
            Py_XDECREF(text);
            Py_XDECREF(kind);
            goto done;
        }
        PyTuple_SET_ITEM(names, (Py_ssize_t)i, text);
        PyTuple_SET_ITEM(kinds, (Py_ssize_t)i, kind);
    }
    if (kinds != NULL) {
        made = PyObject_CallFunction(cls, "NOO", to_str(name, strlen(name)), names, kinds);
    }
done:
    Py_XDECREF(names);
    Py_XDECREF(kinds);
    return made;
}

/* The StructType of |wire|, borrowed; NULL with an exception. */
static PyObject *
struct_type_of(const gp_gob_wire_type *wire)
{
    Definition *definition = gp_gob_wire_type_tag(wire);
    Definition *kept;

    if (definition != NULL) {
        return definition->object;
    }
    definition = PyMem_RawMalloc(sizeof(*definition));
    if (definition == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    definition->object = make_struct_type(wire);
    if (definition->object == NULL) {
        PyMem_RawFree(definition);
        return NULL;
    }
    kept = gp_gob_wire_type_set_tag(wire, definition, release_definition);
    if (kept != definition) { /* another thread was faster */
        Py_DECREF(definition->object);
        PyMem_RawFree(definition);
    }
    return kept->object;
}

static int
make_untyped_struct(const gp_gob_wire_type *wire, void *const *fields, void **out)
{
    PyObject *type = struct_type_of(wire);
    PyObject *names = type != NULL ? PyObject_GetAttr(type, pygo_gob_names.names) : NULL;
    PyObject *values = names != NULL ? PyDict_New() : NULL;
    Py_ssize_t count = values != NULL ? PyTuple_GET_SIZE(names) : 0;
    Py_ssize_t i;

    *out = NULL;
    for (i = 0; i < count; i++) {
        if (fields[i] != NULL &&
            PyDict_SetItem(values, PyTuple_GET_ITEM(names, i), fields[i]) < 0) {
            goto done;
        }
    }
    if (values != NULL) {
        *out = PyObject_CallFunctionObjArgs(pygo_provided(PYGO_STRUCT), type, values, NULL);
    }
    for (i = 0; *out != NULL && i < count; i++) {
        Py_XDECREF((PyObject *)fields[i]);
    }
done:
    Py_XDECREF(names);
    Py_XDECREF(values);
    return *out != NULL ? 0 : GP_EUSER;
}

/* |fields| NULL: all are zero. */
static int
make_struct(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire, void *const *fields,
            void **out)
{
    GobTypeObject *tag;
    PyTypeObject *cls;
    PyObject *no_args;
    PyObject *object;
    PyObject *result;
    Py_ssize_t i;

    if (type == NULL) {
        return make_untyped_struct(wire, fields, out);
    }
    tag = gob_tag(type);
    if (tag->role == GOB_NONE) {
        *out = Py_NewRef(Py_None);
        return 0;
    }
    cls = (PyTypeObject *)tag->cls;
    no_args = PyTuple_New(0);
    object = no_args != NULL ? cls->tp_new(cls, no_args, NULL) : NULL;
    Py_XDECREF(no_args);
    if (object == NULL) {
        return GP_EUSER;
    }
    for (i = 0; i < tag->field_count; i++) {
        if (set_field(ctx, object, &tag->fields[i], fields != NULL ? fields[i] : NULL) < 0) {
            pygo_gob_add_field(ctx, gp_gob_type_field_name(type, (size_t)i));
            goto fail;
        }
    }
    if (tag->hidden_count != 0 && set_hidden(object, tag) < 0) {
        goto fail;
    }
    if (tag->post_init) {
        result = PyObject_CallMethodObjArgs(object, pygo_gob_names.post_init, NULL);
        if (result == NULL) {
            goto fail;
        }
        Py_DECREF(result);
    }
    for (i = 0; fields != NULL && i < tag->field_count; i++) {
        Py_XDECREF((PyObject *)fields[i]);
    }
    *out = object;
    return 0;

fail:
    Py_DECREF(object);
    return GP_EUSER;
}

/* ---- Interfaces ---- */

static int
make_nil(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type), void **out)
{
    *out = Py_NewRef(Py_None);
    return 0;
}

static int
find_type(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type), const void *name, size_t len,
          const gp_gob_wire_type *Py_UNUSED(wire), const gp_gob_type **out)
{
    PyObject *text = to_str(name, len);
    PyObject *found = text != NULL ? PyDict_GetItemWithError(pygo_gob_by_name(), text) : NULL;
    PyObject *function;

    if (found != NULL) {
        Py_INCREF(found);
    } else if (text != NULL && !PyErr_Occurred()) {
        function = pygo_provided(PYGO_REGISTERED_TYPE);
        found = function != NULL ? PyObject_CallFunctionObjArgs(function, text, NULL) : NULL;
    }
    Py_XDECREF(text);
    if (found == NULL) {
        return GP_EUSER;
    }
    *out = found != Py_None ? ((GobTypeObject *)found)->type : NULL;
    Py_DECREF(found); /* the registry keeps every type that it has had */
    return 0;
}

static int
make_interface(void *Py_UNUSED(ctx), const gp_gob_type *Py_UNUSED(type),
               const void *Py_UNUSED(name), size_t Py_UNUSED(len),
               const gp_gob_type *Py_UNUSED(held), const gp_gob_wire_type *Py_UNUSED(wire),
               void *value, void **out)
{
    *out = value;
    return 0;
}

static void
discard(void *Py_UNUSED(ctx), void *value)
{
    Py_DECREF((PyObject *)value);
}

static const gp_gob_sink sink = {
    .make_bool = make_bool,
    .make_int = make_int,
    .make_uint = make_uint,
    .make_float = make_float,
    .make_complex = make_complex,
    .make_bytes = make_bytes,
    .make_string = make_string,
    .make_opaque = make_opaque,
    .make_items = make_items,
    .make_map = make_map,
    .make_struct = make_struct,
    .make_nil = make_nil,
    .find_type = find_type,
    .make_interface = make_interface,
    .discard = discard,
};

PyObject *
pygo_gob_decode(gp_gob_decoder *decoder, const gp_gob_message *message, PyObject *gob_type)
{
    GobTypeObject *type = NULL;
    gp_error err = GP_ERROR_INIT;
    GobContext context = GOB_CONTEXT_INIT;
    void *value = NULL;

    if (gob_type != Py_None) {
        type = pygo_gob_type(gob_type);
        if (type == NULL) {
            return NULL;
        }
    }
    free_unused();
    if (gp_gob_decode(decoder, message, type != NULL ? type->type : NULL, &sink, &context, &value,
                      &err) < 0) {
        return pygo_gob_raise(&context, &err);
    }
    pygo_gob_context_release(&context);
    return value;
}
