/*
 * Layer: os. Names for new files in directories that others can write to as well.
 */
#ifndef GP_OS_TMPDIR_H
#define GP_OS_TMPDIR_H

#include <stdbool.h>
#include <stddef.h>

#include "gp/error.h"

/* Where a short path can always be had, and where temporary files go without a TMPDIR. */
#define GP__SHORT_TMPDIR "/tmp"

/* Where temporary files go: TMPDIR, or /tmp. Borrowed from the environment. */
const char *gp__tmpdir(void);

/* Where sockets go: |directory| if there is one, else PLUGIN_UNIX_SOCKET_DIR, else gp__tmpdir(). */
const char *gp__socket_base(const char *directory);

enum { GP__RANDOM_NAME = 16 };

/*
 * Why sockets with names of |room| bytes cannot be made in the absolute |directory|, or cannot be
 * told of: their paths go through handshake lines and protobuf's strings. NULL: they can. For a
 * sentence: "it is too long ...".
 */
const char *gp__socket_misfit(const char *directory, size_t room);

/*
 * The absolute path of where sockets go (of gp__socket_base(|directory|)), for names of |room|
 * bytes. Where none fit, a private directory is made in GP__SHORT_TMPDIR, for |group| as well (NULL
 * or "": none), and |*made| is set: the caller removes it. |*out| is the caller's.
 *
 * Returns: 0, GP_ENOMEM, GP_EINVAL (no such group) or GP_EOS.
 */
int gp__socket_directory(char **out, bool *made, const char *directory, const char *group,
                         size_t room, gp_error *err);

/* Fill |out| with that many random letters and digits and a terminating zero: about 80 bits. */
void gp__random_name(char out[GP__RANDOM_NAME + 1]);

/* A random number, for what need not be unpredictable. */
unsigned gp__random_number(void);

#endif
