/*
 * Layer: py. GobType: what the glue knows of one type of gob.
 *
 * gob_type_type.c    GobType and GobGroup, the objects; made by _gob/resolve.py
 * gob_source.c       objects of Python -> gob
 * gob_sink.c         gob -> objects of Python
 * gob_time.c         time.Time
 * gob_context.c      why a run of either has failed
 * gob_stream_type.c  GobEncoder and GobDecoder, for one direction of a stream
 */
#ifndef PYGO_GOB_TYPE_H
#define PYGO_GOB_TYPE_H

#include "py/state.h" /* Python.h comes before the system's headers */

#include <stdbool.h>

#include "gp/gob.h"

/* What a type is in Python, where its kind does not say so. */
typedef enum GobRole {
    GOB_PLAIN,
    GOB_NONE,  /* a struct without fields, which is None */
    GOB_TIME,  /* an opaque type: datetime */
    GOB_CODEC, /* an opaque type with functions of the user */
} GobRole;

typedef struct GobTypeObject GobTypeObject;

typedef struct GobField {
    PyObject *attribute; /* owned: an interned str */
    GobTypeObject *type; /* owned: what the field holds unless it is None */
    bool optional;       /* a pointer: None stands for nil */
} GobField;

/* An attribute that is not encoded: a new object gets its default. */
typedef struct GobHidden {
    PyObject *attribute; /* owned: an interned str */
    PyObject *value;     /* owned; NULL: |factory| makes it, or there is none */
    PyObject *factory;   /* owned, may be NULL */
} GobHidden;

/* Immutable once it is complete. The tag of |type| is the object itself. */
struct GobTypeObject {
    PyObject_HEAD
    const gp_gob_type *type; /* shared: ref */
    gp_gob_kind kind;
    GobRole role;
    bool optional;          /* of Optional[T]: |type| is that of |element| */
    bool post_init;         /* STRUCT: the class has __post_init__() */
    int bits;               /* of numbers; otherwise 0 */
    PyObject *kind_name;    /* owned: a str */
    PyObject *spelling;     /* owned: a str; how Go spells the type */
    PyObject *cls;          /* owned; the class of its objects. NULL: the usual one of the kind */
    PyObject *encode;       /* owned; CODEC: encode(value) -> bytes or str */
    PyObject *decode;       /* owned; CODEC: decode(bytes or str) -> value */
    PyObject *zero;         /* owned; CODEC: makes the zero value */
    GobTypeObject *element; /* owned; ARRAY, SLICE, MAP, Optional */
    GobTypeObject *key;     /* owned; MAP */
    Py_ssize_t length;      /* ARRAY */
    PyObject *empty;        /* owned: the zero value, if objects can share it; NULL until needed */
    GobField *fields;       /* owned; STRUCT */
    Py_ssize_t field_count;
    GobHidden *hidden; /* owned; STRUCT */
    Py_ssize_t hidden_count;
};

static inline GobTypeObject *
gob_tag(const gp_gob_type *type)
{
    return (GobTypeObject *)gp_gob_type_tag(type);
}

/* |object| as a GobType, borrowed; NULL with TypeError. */
GobTypeObject *pygo_gob_type(PyObject *object);

/* The two dictionaries of _gob/registry.py, borrowed: by class, and by name. */
PyObject *pygo_gob_by_class(void);
PyObject *pygo_gob_by_name(void);

/*
 * Interned: a str that is made for each use would go into the interpreter's cache of attributes,
 * where it is found by its address.
 */
typedef struct GobNames {
    PyObject *add_note;
    PyObject *keys;
    PyObject *names;
    PyObject *nanosecond;
    PyObject *own_nanosecond; /* "_nanosecond" */
    PyObject *path;
    PyObject *post_init;
    PyObject *utcoffset;
} GobNames;

extern GobNames pygo_gob_names; /* valid once a GobType has been made */

/* ---- Errors ---- */

/* One run of the encoder or the decoder. */
typedef struct GobContext {
    PyObject *reason; /* owned: a str; why a value is refused. NULL: none is */
    PyObject *cause;  /* owned: the exception that it comes from; may be NULL */
    PyObject *tail;   /* owned: a str; the end of the path that the core does not know. NULL: "" */
    PyObject *temporary; /* owned; what a source has handed out last */
    unsigned char time[16];
} GobContext;

#define GOB_CONTEXT_INIT {NULL, NULL, NULL, NULL, {0}}

void pygo_gob_context_release(GobContext *context);

/*
 * Refuse a value: the run ends with a GobError of this text. Takes the exception that is set, if
 * any, as its cause. Returns GP_EUSER.
 */
int pygo_gob_refuse(GobContext *context, const char *format, ...);

/*
 * The user's code has raised the exception that is set. A GobError refuses the value, all others
 * end the run as they are. Returns GP_EUSER.
 */
int pygo_gob_user_error(GobContext *context);

/* Put .|field| before the tail of the path of the value that has been refused, if one has. */
void pygo_gob_add_field(GobContext *context, const char *field);

/* Raise what has ended the run, and release both. Returns NULL. */
PyObject *pygo_gob_raise(GobContext *context, gp_error *err);

/* ---- time.Time ---- */

enum { GOB_TIME_SIZE = 16 };

/*
 * Encode a datetime into |out|, of GOB_TIME_SIZE bytes. Returns the length, or GP_EUSER; |*zero|
 * says whether it is Go's zero time.
 */
int pygo_gob_time_encode(GobContext *context, PyObject *value, unsigned char *out, bool *zero);

/* Make a |cls|, a subclass of datetime, of the bytes. 0 with a new reference, or GP_EUSER. */
int pygo_gob_time_decode(GobContext *context, PyObject *cls, const unsigned char *bytes, size_t len,
                         PyObject **out);

/* Whether the bytes look like a time.Time. */
bool pygo_gob_is_time(const unsigned char *bytes, size_t len);

/* The zero value of a type: a new reference, or NULL with an exception. */
PyObject *pygo_gob_zero(GobContext *context, GobTypeObject *type);

#endif
