/*
 * Layer: netrpc. Files of the streams of a transport; see gp/netrpc_file.h.
 */
#ifndef GP_NETRPC_NETRPC_FILE_H
#define GP_NETRPC_NETRPC_FILE_H

#include "gp/netrpc_file.h"
#include "netrpc/transport.h"

/*
 * Make a file of |stream|, which it owns, also when this fails. It takes a reference of the
 * transport. Its caller holds the transport's lock. Returns: 0 or GP_ENOMEM.
 */
int gp__netrpc_file_new_locked(gp_netrpc_file **out, gp__transport_stream *stream, gp_error *err);

#endif
