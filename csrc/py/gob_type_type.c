#include "py/gob_type.h"

#include "py/errors.h"
#include "py/gob.h"

/* ---- Groups ---- */

typedef struct GobGroupObject {
    PyObject_HEAD
    gp_gob_group *group; /* shared: ref */
} GobGroupObject;

static PyObject *
group_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    gp_error err = GP_ERROR_INIT;
    GobGroupObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":GobGroup", names)) {
        return NULL;
    }
    self = (GobGroupObject *)type->tp_alloc(type, 0);
    if (self != NULL && gp_gob_group_new(&self->group, &err) < 0) {
        pygo_raise(&err, NULL);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
group_dealloc(GobGroupObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->group != NULL) {
        gp_gob_group_unref(self->group);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot group_slots[] = {
    {Py_tp_new, group_new},
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_doc, "Types that were made together: they may refer to each other, and live as long."},
    {0, NULL},
};

static PyType_Spec group_spec = {
    .name = "pygo_plugin._core.GobGroup",
    .basicsize = sizeof(GobGroupObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = group_slots,
};

/* ---- Kinds ---- */

/* What _gob/resolve.py calls the kinds. */
static const struct {
    const char *name;
    gp_gob_kind kind;
    GobRole role;
    gp_gob_flavour flavour;
} kinds[] = {
    {"bool", GP_GOB_BOOL, GOB_PLAIN, GP_GOB_ENCODER},
    {"int", GP_GOB_INT, GOB_PLAIN, GP_GOB_ENCODER},
    {"uint", GP_GOB_UINT, GOB_PLAIN, GP_GOB_ENCODER},
    {"float", GP_GOB_FLOAT, GOB_PLAIN, GP_GOB_ENCODER},
    {"complex", GP_GOB_COMPLEX, GOB_PLAIN, GP_GOB_ENCODER},
    {"bytes", GP_GOB_BYTES, GOB_PLAIN, GP_GOB_ENCODER},
    {"string", GP_GOB_STRING, GOB_PLAIN, GP_GOB_ENCODER},
    {"interface", GP_GOB_INTERFACE, GOB_PLAIN, GP_GOB_ENCODER},
    {"array", GP_GOB_ARRAY, GOB_PLAIN, GP_GOB_ENCODER},
    {"slice", GP_GOB_SLICE, GOB_PLAIN, GP_GOB_ENCODER},
    {"map", GP_GOB_MAP, GOB_PLAIN, GP_GOB_ENCODER},
    {"struct", GP_GOB_STRUCT, GOB_PLAIN, GP_GOB_ENCODER},
    {"none", GP_GOB_STRUCT, GOB_NONE, GP_GOB_ENCODER},
    {"time", GP_GOB_OPAQUE, GOB_TIME, GP_GOB_ENCODER},
    {"gob", GP_GOB_OPAQUE, GOB_CODEC, GP_GOB_ENCODER},
    {"binary", GP_GOB_OPAQUE, GOB_CODEC, GP_GOB_BINARY},
    {"text", GP_GOB_OPAQUE, GOB_CODEC, GP_GOB_TEXT},
};

/* The index of a kind in |kinds|; -1 with ValueError. */
static int
find_kind(const char *name)
{
    int i;

    for (i = 0; i < (int)Py_ARRAY_LENGTH(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "gob has no kind %s", name);
    return -1;
}

/* ---- Types ---- */

GobTypeObject *
pygo_gob_type(PyObject *object)
{
    if (pygo_check_type(object, pygo_module_state->gob_type_type) < 0) {
        return NULL;
    }
    return (GobTypeObject *)object;
}

const gp_gob_type *
pygo_gob_type_of(PyObject *gob_type)
{
    GobTypeObject *self = pygo_gob_type(gob_type);

    return self != NULL ? self->type : NULL;
}

static int
type_traverse(GobTypeObject *self, visitproc visit, void *arg)
{
    Py_ssize_t i;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->cls);
    Py_VISIT(self->encode);
    Py_VISIT(self->decode);
    Py_VISIT(self->zero);
    Py_VISIT(self->element);
    Py_VISIT(self->key);
    Py_VISIT(self->empty);
    for (i = 0; i < self->field_count; i++) {
        Py_VISIT(self->fields[i].type);
    }
    for (i = 0; i < self->hidden_count; i++) {
        Py_VISIT(self->hidden[i].value);
        Py_VISIT(self->hidden[i].factory);
    }
    return 0;
}

static int
type_clear(GobTypeObject *self)
{
    GobField *fields = self->fields;
    GobHidden *hidden = self->hidden;
    Py_ssize_t field_count = self->field_count;
    Py_ssize_t hidden_count = self->hidden_count;
    Py_ssize_t i;

    self->fields = NULL;
    self->hidden = NULL;
    self->field_count = 0;
    self->hidden_count = 0;
    for (i = 0; i < field_count; i++) {
        Py_XDECREF(fields[i].attribute);
        Py_XDECREF(fields[i].type);
    }
    for (i = 0; i < hidden_count; i++) {
        Py_XDECREF(hidden[i].attribute);
        Py_XDECREF(hidden[i].value);
        Py_XDECREF(hidden[i].factory);
    }
    PyMem_Free(fields);
    PyMem_Free(hidden);
    Py_CLEAR(self->cls);
    Py_CLEAR(self->encode);
    Py_CLEAR(self->decode);
    Py_CLEAR(self->zero);
    Py_CLEAR(self->element);
    Py_CLEAR(self->key);
    Py_CLEAR(self->empty);
    return 0;
}

static void
type_dealloc(GobTypeObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    type_clear(self);
    Py_CLEAR(self->kind_name);
    Py_CLEAR(self->spelling);
    gp_gob_type_unref(self->type);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Make |self->type| in |group|; NULL: in one of its own. Returns 0, or -1 with an exception. */
static int
make_type(GobTypeObject *self, gp_gob_group *group, const char *name, gp_gob_flavour flavour)
{
    gp_error err = GP_ERROR_INIT;
    gp_gob_group *own = NULL;
    gp_gob_type *made = NULL;
    gp_gob_type_spec spec = {
        .kind = self->kind,
        .bits = self->bits,
        .name = name,
        .element = self->element != NULL ? (gp_gob_type *)self->element->type : NULL,
        .key = self->key != NULL ? (gp_gob_type *)self->key->type : NULL,
        .length = (size_t)self->length,
        .flavour = flavour,
        .tag = self,
    };
    int rc = group == NULL ? gp_gob_group_new(&own, &err) : 0;

    if (rc == 0) {
        rc = gp_gob_type_new(&made, group != NULL ? group : own, &spec, &err);
    }
    if (rc == 0 && self->role == GOB_NONE) {
        rc = gp_gob_type_set_fields(made, NULL, 0, &err);
    }
    if (rc == 0) {
        self->type = gp_gob_type_ref(made);
    }
    if (own != NULL) {
        gp_gob_group_unref(own);
    }
    if (rc < 0) {
        pygo_raise(&err, NULL);
        return -1;
    }
    return 0;
}

static PyObject *
type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"kind",   "spelling", "group",  "name",   "bits", "element", "key",
                            "length", "python",   "encode", "decode", "zero", NULL};
    pygo_state *state = pygo_module_state;
    PyObject *kind_name;
    PyObject *spelling;
    PyObject *group = NULL;
    const char *name = NULL;
    int bits = 0;
    PyObject *element = NULL;
    PyObject *key = NULL;
    Py_ssize_t length = 0;
    PyObject *cls = NULL;
    PyObject *encode = NULL;
    PyObject *decode = NULL;
    PyObject *zero = NULL;
    GobTypeObject *self;
    int kind;
    bool optional;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UU|$O!ziO!O!nOOOO:GobType", names, &kind_name,
                                     &spelling, state->gob_group_type, &group, &name, &bits, type,
                                     &element, type, &key, &length, &cls, &encode, &decode,
                                     &zero)) {
        return NULL;
    }
    optional = PyUnicode_CompareWithASCIIString(kind_name, "optional") == 0;
    if (optional && element == NULL) {
        PyErr_SetString(PyExc_TypeError, "an optional type needs an element");
        return NULL;
    }
    kind = optional ? 0 : find_kind(PyUnicode_AsUTF8(kind_name));
    if (kind < 0) {
        return NULL;
    }
    self = (GobTypeObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->kind_name = Py_NewRef(kind_name);
    self->spelling = Py_NewRef(spelling);
    self->element = (GobTypeObject *)Py_XNewRef(element);
    self->key = (GobTypeObject *)Py_XNewRef(key);
    self->cls = cls != Py_None ? Py_XNewRef(cls) : NULL;
    self->encode = Py_XNewRef(encode);
    self->decode = Py_XNewRef(decode);
    self->zero = Py_XNewRef(zero);
    self->length = length;
    self->optional = optional;
    if (optional) {
        self->kind = self->element->kind;
        self->role = self->element->role;
        self->bits = self->element->bits;
        self->type = gp_gob_type_ref(self->element->type);
        return (PyObject *)self;
    }
    self->kind = kinds[kind].kind;
    self->role = kinds[kind].role;
    self->bits = self->kind <= GP_GOB_COMPLEX ? bits : 0;
    rc = make_type(self, group != NULL ? ((GobGroupObject *)group)->group : NULL, name,
                   kinds[kind].flavour);
    if (rc < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* Take the (attribute, name, type) triples of define() over. Returns 0, or -1 with an exception. */
static int
take_fields(GobTypeObject *self, PyObject *triples, gp_gob_field *fields)
{
    Py_ssize_t count = PyTuple_GET_SIZE(triples);
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        GobField *field = &self->fields[i];
        PyObject *attribute;
        PyObject *type;

        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(triples, i), "UsO!:define", &attribute,
                              &fields[i].name, pygo_module_state->gob_type_type, &type)) {
            return -1;
        }
        field->optional = ((GobTypeObject *)type)->optional;
        if (field->optional) {
            type = (PyObject *)((GobTypeObject *)type)->element;
        }
        field->type = (GobTypeObject *)Py_NewRef(type);
        field->attribute = Py_NewRef(attribute);
        PyUnicode_InternInPlace(&field->attribute);
        fields[i].type = (gp_gob_type *)field->type->type;
        self->field_count = i + 1;
    }
    return 0;
}

/* Take the (attribute, default, factory) triples over. Returns 0, or -1 with an exception. */
static int
take_hidden(GobTypeObject *self, PyObject *triples, PyObject *missing)
{
    Py_ssize_t count = PyTuple_GET_SIZE(triples);
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        GobHidden *hidden = &self->hidden[i];
        PyObject *attribute;
        PyObject *value;
        PyObject *factory;

        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(triples, i), "UOO:define", &attribute, &value,
                              &factory)) {
            return -1;
        }
        hidden->attribute = Py_NewRef(attribute);
        PyUnicode_InternInPlace(&hidden->attribute);
        hidden->value = value != missing ? Py_NewRef(value) : NULL;
        hidden->factory = factory != missing ? Py_NewRef(factory) : NULL;
        self->hidden_count = i + 1;
    }
    return 0;
}

static PyObject *
type_define(GobTypeObject *self, PyObject *args)
{
    gp_error err = GP_ERROR_INIT;
    PyObject *encoded;
    PyObject *hidden;
    PyObject *missing;
    gp_gob_field *fields;
    int rc = -1;

    if (!PyArg_ParseTuple(args, "O!O!O:define", &PyTuple_Type, &encoded, &PyTuple_Type, &hidden,
                          &missing)) {
        return NULL;
    }
    if (self->kind != GP_GOB_STRUCT || self->role != GOB_PLAIN || self->fields != NULL) {
        PyErr_SetString(PyExc_TypeError, "only a struct has fields, which are defined once");
        return NULL;
    }
    fields = PyMem_Calloc((size_t)PyTuple_GET_SIZE(encoded) + 1, sizeof(*fields));
    self->fields = PyMem_Calloc((size_t)PyTuple_GET_SIZE(encoded) + 1, sizeof(*self->fields));
    self->hidden = PyMem_Calloc((size_t)PyTuple_GET_SIZE(hidden) + 1, sizeof(*self->hidden));
    if (fields == NULL || self->fields == NULL || self->hidden == NULL) {
        PyErr_NoMemory();
    } else if (take_fields(self, encoded, fields) == 0 && take_hidden(self, hidden, missing) == 0) {
        rc = gp_gob_type_set_fields((gp_gob_type *)self->type, fields, (size_t)self->field_count,
                                    &err);
        if (rc < 0) {
            pygo_raise(&err, NULL);
        }
    }
    PyMem_Free(fields);
    self->post_init = self->cls != NULL && PyObject_HasAttr(self->cls, pygo_gob_names.post_init);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
type_repr(GobTypeObject *self)
{
    return PyUnicode_FromFormat("<GobType %U>", self->spelling);
}

static PyMethodDef type_methods[] = {
    {"define", (PyCFunction)type_define, METH_VARARGS,
     "define($self, fields, hidden, missing, /)\n--\n\nComplete a struct. `fields`: its attributes "
     "with Go's names and their types. `hidden`: attributes that are not encoded, with default and "
     "factory, each of which may be `missing`."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef type_members[] = {
    {"kind", T_OBJECT, offsetof(GobTypeObject, kind_name), READONLY, "As given to the class."},
    {"spelling", T_OBJECT, offsetof(GobTypeObject, spelling), READONLY, "How Go spells the type."},
    {"optional", T_BOOL, offsetof(GobTypeObject, optional), READONLY, "Whether it may be None."},
    {"python", T_OBJECT, offsetof(GobTypeObject, cls), READONLY, "The class of its objects."},
    {"element", T_OBJECT, offsetof(GobTypeObject, element), READONLY, "The type of its elements."},
    {"bits", T_INT, offsetof(GobTypeObject, bits), READONLY, "The width of a number."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, type_new},
    {Py_tp_dealloc, type_dealloc},
    {Py_tp_traverse, type_traverse},
    {Py_tp_clear, type_clear},
    {Py_tp_repr, type_repr},
    {Py_tp_methods, type_methods},
    {Py_tp_members, type_members},
    {Py_tp_doc, "A type of gob, made from an annotation. Immutable once it is complete."},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "pygo_plugin._core.GobType",
    .basicsize = sizeof(GobTypeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = type_slots,
};

/* ---- Names ---- */

GobNames pygo_gob_names;

static int
intern_names(void)
{
    GobNames *names = &pygo_gob_names;

    names->add_note = PyUnicode_InternFromString("add_note");
    names->keys = PyUnicode_InternFromString("keys");
    names->names = PyUnicode_InternFromString("names");
    names->nanosecond = PyUnicode_InternFromString("nanosecond");
    names->own_nanosecond = PyUnicode_InternFromString("_nanosecond");
    names->path = PyUnicode_InternFromString("path");
    names->post_init = PyUnicode_InternFromString("__post_init__");
    names->utcoffset = PyUnicode_InternFromString("utcoffset");
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- The registry ---- */

static PyObject *by_class; /* owned: a dict, class -> (name, GobType) */
static PyObject *by_name;  /* owned: a dict, name -> GobType */

PyObject *
pygo_gob_by_class(void)
{
    return by_class;
}

PyObject *
pygo_gob_by_name(void)
{
    return by_name;
}

static PyObject *
gob_registry(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyTuple_Pack(2, by_class, by_name);
}

static PyMethodDef functions[] = {
    {"gob_registry", gob_registry, METH_NOARGS,
     "gob_registry($module)\n--\n\nThe types of interface values: a dict of (name, GobType) by "
     "class "
     "and one of GobTypes by name. What they lack, the core asks the package for."},
    {NULL, NULL, 0, NULL},
};

int
pygo_gob_type_setup(PyObject *module, pygo_state *state)
{
    by_class = PyDict_New();
    by_name = PyDict_New();
    state->gob_group_type = pygo_add_type(module, &group_spec);
    state->gob_type_type = pygo_add_type(module, &type_spec);
    if (intern_names() < 0 || by_class == NULL || by_name == NULL ||
        state->gob_group_type == NULL || state->gob_type_type == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
