/*
 * Layer: public. Where a plugin may listen. These choose an address; gRPC binds it later, so a caller
 * whose binding fails because somebody was faster chooses again. Threads: any.
 */
#ifndef GP_LISTEN_H
#define GP_LISTEN_H

#include <stddef.h>

#include "gp/error.h"

/* Room for any path that a unix socket can have. */
#define GP_LISTEN_PATH 128

/*
 * Choose the path of a new unix socket: "plugin" and a random part that nobody can guess or has
 * taken, in |directory|; NULL stands for PLUGIN_UNIX_SOCKET_DIR, or else the temporary directory.
 *
 * Who may connect is decided by the file's mode, which bind() derives from the umask: hold a umask of
 * 0177 while binding, if no other thread creates files then, and call gp_listen_protect() after it.
 *
 * Returns: 0, GP_EINVAL (the directory's path is too long for a socket), or GP_EOS (no directory, or
 * none that we may write to).
 */
int gp_listen_path(char out[GP_LISTEN_PATH], const char *directory, gp_error *err);

/*
 * Let only this user connect (0600), or, with a |group| (name or number; NULL or "": none), that
 * group as well (0660). Returns 0, GP_EINVAL (no such group) or GP_EOS.
 */
int gp_listen_protect(const char *path, const char *group, gp_error *err);

/*
 * Choose a TCP port on 127.0.0.1 between |min| and |max| (both inclusive) on which nobody listens.
 *
 * The search begins anywhere in the range, so that plugins that start together seldom choose the same
 * port. gRPC has to bind it without SO_REUSEPORT, or two of them could end up sharing it unnoticed.
 *
 * Returns: the port, GP_EINVAL (no such range) or GP_EOS (all taken).
 */
int gp_listen_port(int min, int max, gp_error *err);

#endif
