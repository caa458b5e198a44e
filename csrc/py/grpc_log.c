#include "py/grpc_log.h"

#include <stdatomic.h>
#include <string.h>

#include "gp/runtime.h"
#include "py/callbacks.h"
#include "py/gil.h"

/* Lines that may wait for the callback thread, and bytes of one line. */
enum { MAX_WAITING = 256, MAX_LINE = 4096 };

typedef struct grpc_line {
    pygo_callback callback;
    int level;
    size_t len;
    char text[];
} grpc_line;

static atomic_int waiting;
static atomic_int left_out; /* since the last line that was logged */

static void
run_line(pygo_callback *callback)
{
    grpc_line *self = (grpc_line *)callback;
    PyObject *line = pygo_provided(PYGO_LOG_LINE);
    PyObject *text = PyUnicode_DecodeUTF8(self->text, (Py_ssize_t)self->len, "replace");
    PyObject *level = PyLong_FromLong(self->level);
    PyObject *missing = PyLong_FromLong(atomic_exchange(&left_out, 0));
    PyObject *result = NULL;

    atomic_fetch_sub(&waiting, 1);
    if (line != NULL && text != NULL && level != NULL && missing != NULL) {
        PyObject *args[] = {level, text, missing};

        result = pygo_gil_call_user(line, args, 3);
    }
    Py_XDECREF(level);
    Py_XDECREF(missing);
    if (result == NULL) {
        PyErr_WriteUnraisable(line);
    }
    Py_XDECREF(result);
    Py_XDECREF(text);
    PyMem_RawFree(self);
}

void
pygo_grpc_log(int level, const char *text)
{
    const char *end = memchr(text, '\0', MAX_LINE);
    size_t len = end != NULL ? (size_t)(end - text) : MAX_LINE;
    grpc_line *made;

    if (gp_runtime_forked() || !pygo_gil_is_open()) {
        return;
    }
    if (atomic_fetch_add(&waiting, 1) >= MAX_WAITING ||
        (made = PyMem_RawCalloc(1, sizeof(*made) + len)) == NULL) {
        atomic_fetch_sub(&waiting, 1);
        atomic_fetch_add(&left_out, 1);
        return;
    }
    made->callback.run = run_line;
    made->level = level;
    made->len = len;
    memcpy(made->text, text, len);
    pygo_callback_post(&made->callback);
}
