/*
 * Layer: py. Answers a server's calls: finds the handler of the method and runs it, or passes the
 * call to an event loop.
 */
#ifndef PYGO_DISPATCHER_H
#define PYGO_DISPATCHER_H

#include "gp/server.h"
#include "py/async_server.h"
#include "py/state.h"

/*
 * Fill |handler|. Returns its context, which handler->release frees. NULL with an exception.
 *
 * The handler of a method is taken from |registered|, a dict; without one, |find|(details) returns
 * a grpc.RpcMethodHandler or None. |contexts| is a subclass of ServerCall. |arrivals| are taken
 * over, also on failure; NULL: no event loop. |reports_full|: workers_full() of the package is
 * called when calls wait because too many handlers run.
 */
void *pygo_dispatcher_new(gp_server_handler *handler, PyObject *find, PyObject *registered,
                          PyObject *contexts, pygo_arrivals *arrivals, bool reports_full);

/*
 * For the garbage collector, once no thread of the server uses the dispatcher. After
 * pygo_dispatcher_clear(), calls are refused.
 */
int pygo_dispatcher_traverse(void *ctx, visitproc visit, void *arg);
void pygo_dispatcher_clear(void *ctx);

#endif
