/*
 * Layer: py. What newer CPythons have and 3.9 does not.
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

/* From 3.10 on a type can say that it is not to be made by calling it. Before, it has no tp_new. */
#ifdef Py_TPFLAGS_DISALLOW_INSTANTIATION
#define PYGO_DISALLOW_INSTANTIATION Py_TPFLAGS_DISALLOW_INSTANTIATION
#else
#define PYGO_DISALLOW_INSTANTIATION 0
#endif

#endif
