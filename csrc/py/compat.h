/*
 * Layer: py. Functions and flags of newer CPythons that 3.9 does not have.
 */
#ifndef PYGO_COMPAT_H
#define PYGO_COMPAT_H

#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *
Py_NewRef(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static inline PyObject *
Py_XNewRef(PyObject *object)
{
    Py_XINCREF(object);
    return object;
}
#endif

/* For types that cannot be called to make objects. Before 3.10 they just have no tp_new. */
#ifdef Py_TPFLAGS_DISALLOW_INSTANTIATION
#define PYGO_DISALLOW_INSTANTIATION Py_TPFLAGS_DISALLOW_INSTANTIATION
#else
#define PYGO_DISALLOW_INSTANTIATION 0
#endif

#endif
