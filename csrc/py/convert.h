/*
 * Layer: py. Numbers from Python: times and compression.
 */
#ifndef PYGO_CONVERT_H
#define PYGO_CONVERT_H

#include <stdint.h>

#include "py/state.h"

/*
 * Convert |seconds| to nanoseconds or milliseconds, rounded down. None, NULL and more than a
 * century mean no limit, which is negative in |*out|. A negative number becomes 0. Returns 0, or -1
 * with ConfigTypeError for anything else.
 */
int pygo_timeout_ns(int64_t *out, PyObject *seconds);
int pygo_timeout_ms(int64_t *out, PyObject *seconds);

/* The seconds left until a deadline as a float; negative: None. */
PyObject *pygo_time_remaining(double seconds);

/* The number of a grpc.Compression. Returns 0, or -1 with an exception. */
int pygo_compression(int *out, PyObject *compression);

#endif
