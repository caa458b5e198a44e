/*
 * Layer: os. Directories for temporary files and sockets, and random names in them.
 */
#ifndef GP_OS_TMPDIR_H
#define GP_OS_TMPDIR_H

#include <stdbool.h>
#include <stddef.h>

#include "gp/error.h"

/* A directory with a short path, which is used for temporary files if there is no TMPDIR. */
#define GP__SHORT_TMPDIR "/tmp"

/* The directory for temporary files: TMPDIR, or /tmp. Borrowed from the environment. */
const char *gp__tmpdir(void);

/*
 * The directory for sockets: |directory| unless it is NULL, else PLUGIN_UNIX_SOCKET_DIR, else
 * gp__tmpdir().
 */
const char *gp__socket_base(const char *directory);

enum { GP__RANDOM_NAME = 16 };

/*
 * Why sockets with names of |room| bytes cannot be made in the absolute |directory|, or their paths
 * cannot be in handshake lines and protobuf's strings; a clause ("its path is ..."). NULL: they
 * can.
 */
const char *gp__socket_misfit(const char *directory, size_t room);

/*
 * The absolute path of gp__socket_base(|directory|), for sockets with names of |room| bytes. If
 * such names do not fit, a private directory is made in GP__SHORT_TMPDIR instead, for |group| as
 * well (NULL or "": none), and |*made| is set: the caller removes it. |*out| is the caller's.
 *
 * Returns: 0, GP_ENOMEM, GP_EINVAL (no such group) or GP_EOS.
 */
int gp__socket_directory(char **out, bool *made, const char *directory, const char *group,
                         size_t room, gp_error *err);

/* Fill |out| with random letters and digits (about 80 bits) and a terminating zero. */
void gp__random_name(char out[GP__RANDOM_NAME + 1]);

/* A random number, for uses in which it may be predictable. */
unsigned gp__random_number(void);

#endif
