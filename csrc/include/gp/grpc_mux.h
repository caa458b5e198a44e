/*
 * Layer: public. Sends everything that a host and its plugin exchange by gRPC over one connection
 * (protocol: "Broker multiplexing"): the main gRPC connection, and each brokered one, is a stream
 * of a yamux session.
 *
 * gRPC connects and listens as always, with TLS or without, but at unix sockets in a private
 * directory of this process: a connection to one of them becomes a stream, and a stream that the
 * other side opens becomes a connection to one of them.
 *
 * Before a side opens a brokered stream, it asks the other side to accept it and waits for the
 * answer: the next stream then belongs to the id in that request. The broker carries these requests
 * and answers.
 *
 * Shared by reference. Threads: any.
 */
#ifndef GP_GRPC_MUX_H
#define GP_GRPC_MUX_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

typedef struct gp_grpc_mux gp_grpc_mux;

/*
 * Make the object, and its private directory in |base|. NULL stands for PLUGIN_UNIX_SOCKET_DIR or,
 * if that is not set, the temporary directory. If gRPC could not connect to sockets there, the
 * directory is in /tmp. Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp_grpc_mux_new(gp_grpc_mux **out, const char *base, gp_error *err);

gp_grpc_mux *gp_grpc_mux_ref(gp_grpc_mux *mux);
void gp_grpc_mux_unref(gp_grpc_mux *mux);

/*
 * The path of the main connection: a plugin's server listens there, and after gp_grpc_mux_connect()
 * a host's channel connects to it. Borrowed.
 */
const char *gp_grpc_mux_path(const gp_grpc_mux *mux);

/* The main path as a target for gRPC: "unix:" and the path, escaped. */
const char *gp_grpc_mux_target(const gp_grpc_mux *mux);

/* On the host: connect to the plugin. Blocks for |timeout_ms| at most. */
int gp_grpc_mux_connect(gp_grpc_mux *mux, const char *network, const char *address,
                        int64_t timeout_ms, const gp_interrupt *interrupt, gp_error *err);

/*
 * The private directory (mode 0700), which is also for servers of brokered connections. Borrowed.
 */
const char *gp_grpc_mux_directory(const gp_grpc_mux *mux);

/*
 * On the plugin: listen for one connection, at the address that the handshake is to announce.
 * |port| (may be NULL) is set to the port that "host:0" was given. The umask decides who may
 * connect, as with gp_place_bind().
 */
int gp_grpc_mux_listen(gp_grpc_mux *mux, const char *network, const char *address, int *port,
                       gp_error *err);

/*
 * Why the connection has ended: a GP_E* code with the reason in |why|. Returns 0 if it has not
 * ended, or only because the other side has closed it.
 */
int gp_grpc_mux_why(gp_grpc_mux *mux, gp_error *why);

/*
 * Have the reason why the connection has ended written to a duplicate of |fd|, a plugin's stderr,
 * as a line for its host's log. If the pipe is full, nothing is written. Returns 0 or GP_EOS.
 */
int gp_grpc_mux_log_to(gp_grpc_mux *mux, int fd, gp_error *err);

/* Remove the directory and all sockets in it: nothing new is dialled or accepted. Idempotent. */
void gp_grpc_mux_remove(gp_grpc_mux *mux);

/* End the session and remove everything. Idempotent. Must not be called on the reactor's thread. */
void gp_grpc_mux_close(gp_grpc_mux *mux);

#endif
