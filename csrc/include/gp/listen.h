/*
 * Layer: public. Where a plugin may listen, and who may connect. These functions choose an address,
 * and gRPC binds it. If binding fails because another process has bound the address meanwhile, the
 * caller chooses again. Threads: any.
 */
#ifndef GP_LISTEN_H
#define GP_LISTEN_H

#include <stddef.h>

#include "gp/error.h"

/* Room for the path of any unix socket. */
#define GP_LISTEN_PATH 128

/*
 * A unix socket of this process, from the choice of its path to its removal.
 *
 *   gp_place *place;
 *   gp_place_new(&place, NULL, NULL, &err);
 *   ... bind and listen at gp_place_bind() or, for gRPC, gp_place_target() ...
 *   gp_place_publish(place, &err);
 *   ... announce gp_place_path() ...
 *   gp_place_remove(place);
 *   gp_place_release(place);
 *
 * If other users could replace a socket that has just been made (its directory is shared with a
 * group, or with all users), it is bound in a private directory, and moved once it has its mode.
 */
typedef struct gp_place gp_place;

/*
 * Choose a path in |directory| (NULL: PLUGIN_UNIX_SOCKET_DIR, or else the temporary directory):
 * "plugin" and a random part that cannot be guessed and is not in use. If the path would be too
 * long for a socket, or cannot be in a handshake line, it is in a new private directory in /tmp.
 * With a |group| (name or number; NULL or "": none), its members may connect, too.
 *
 * Returns: 0, GP_EINVAL (there is no such group), GP_ENOMEM, or GP_EOS (there is no such directory,
 * or we may not write to it).
 */
int gp_place_new(gp_place **out, const char *directory, const char *group, gp_error *err);

/* The path of the published socket: absolute, UTF-8, and without bars and control characters. */
const char *gp_place_path(const gp_place *place);

/* The path at which to bind the socket. */
const char *gp_place_bind(const gp_place *place);

/* The path at which to bind, as an address for gRPC: "unix:" and the path, escaped. */
const char *gp_place_target(const gp_place *place);

/* The private directory that was made because no other one would do; NULL: none. */
const char *gp_place_directory(const gp_place *place);

/*
 * Once, after binding: let only this user connect (0600), or the group as well (0660). Returns as
 * gp_place_new().
 */
int gp_place_publish(gp_place *place, gp_error *err);

/* Remove the socket, and the directories that were made for it. Idempotent. */
void gp_place_remove(gp_place *place);

/* Free the place. A published socket stays. NULL is fine. */
void gp_place_release(gp_place *place);

/*
 * Make a directory for another process's sockets, in the temporary directory or, if their paths
 * would be too long, in /tmp: for this user alone (0700), or, with a |group|, for that as well
 * (0770). Returns as gp_place_new().
 */
int gp_listen_directory(char out[GP_LISTEN_PATH], const char *group, gp_error *err);

/*
 * Choose a free TCP port on 127.0.0.1 between |min| and |max| (both inclusive).
 *
 * The search begins at a random port of the range, so that plugins that start together seldom
 * choose the same one. gRPC has to bind it without SO_REUSEPORT, or two plugins could share it
 * unnoticed.
 *
 * Returns: the port, GP_EINVAL (no such range) or GP_EOS (no port is free).
 */
int gp_listen_port(int min, int max, gp_error *err);

#endif
