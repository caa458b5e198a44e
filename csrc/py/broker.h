/*
 * Layer: py. Brokers as Python objects.
 */
#ifndef PYGO_BROKER_H
#define PYGO_BROKER_H

#include "gp/broker.h"
#include "py/state.h"

/*
 * A Broker around |broker|, whose reference is taken over, also on failure. |name|, a str, begins
 * the messages of errors. |options|, or NULL, is kept alive: channel arguments may point into it.
 */
PyObject *pygo_broker_wrap(gp_broker *broker, PyObject *name, PyObject *options);

#endif
