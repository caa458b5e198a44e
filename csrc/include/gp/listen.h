/*
 * Layer: public. Where a plugin may listen, and who may connect. These choose an address; gRPC
 * binds it, so a caller whose binding fails because another process was faster chooses again.
 * Threads: any.
 */
#ifndef GP_LISTEN_H
#define GP_LISTEN_H

#include <stddef.h>

#include "gp/error.h"

/* Room for any path that a unix socket can have. */
#define GP_LISTEN_PATH 128

/*
 * A unix socket of this process's, from the choice of its path to its end.
 *
 *   gp_place *place;
 *   gp_place_new(&place, NULL, NULL, &err);
 *   ... bind and listen at gp_place_bind() or, for gRPC, gp_place_target() ...
 *   gp_place_publish(place, &err);
 *   ... tell others of gp_place_path() ...
 *   gp_place_remove(place);
 *   gp_place_release(place);
 *
 * Where others could put something else in the place of a socket that has just been made (the
 * directory is shared with a group, or with everybody), it is bound in a private directory, and
 * moved once it has its mode.
 */
typedef struct gp_place gp_place;

/*
 * Choose a path: "plugin" and a random part that nobody can guess or has taken, in |directory|;
 * NULL stands for PLUGIN_UNIX_SOCKET_DIR, or else the temporary directory. Where no socket fits
 * into that, or its path into a handshake line, in a new private directory in /tmp. With a |group|
 * (name or number; NULL or "": none), its members may connect, too.
 *
 * Returns: 0, GP_EINVAL (no such group), GP_ENOMEM, or GP_EOS (no directory, or none that we may
 * write to).
 */
int gp_place_new(gp_place **out, const char *directory, const char *group, gp_error *err);

/* The path of the published socket: absolute, UTF-8, without bars and control characters. */
const char *gp_place_path(const gp_place *place);

/* Where to bind, until it is published. */
const char *gp_place_bind(const gp_place *place);

/* The same for gRPC: "unix:" and the path, escaped. */
const char *gp_place_target(const gp_place *place);

/* The private directory that had to be made for it; NULL: none. */
const char *gp_place_directory(const gp_place *place);

/*
 * Once, after binding: let only this user connect (0600), or the group as well (0660). Returns as
 * gp_place_new().
 */
int gp_place_publish(gp_place *place, gp_error *err);

/* Remove the socket, and what was made for it. Idempotent. */
void gp_place_remove(gp_place *place);

/* Free the place, whose socket stays if it is published; NULL: nothing happens. */
void gp_place_release(gp_place *place);

/*
 * Make a directory for another process's sockets, in the temporary directory or, where none would
 * fit into that, in /tmp: for this user alone (0700), or, with a |group|, for that as well (0770).
 * Returns as gp_place_new().
 */
int gp_listen_directory(char out[GP_LISTEN_PATH], const char *group, gp_error *err);

/*
 * Choose a TCP port on 127.0.0.1 between |min| and |max| (both inclusive) on which nobody listens.
 *
 * The search begins anywhere in the range, so that plugins that start together seldom choose the
 * same port. gRPC has to bind it without SO_REUSEPORT, or two of them could end up sharing it
 * unnoticed.
 *
 * Returns: the port, GP_EINVAL (no such range) or GP_EOS (all taken).
 */
int gp_listen_port(int min, int max, gp_error *err);

#endif
