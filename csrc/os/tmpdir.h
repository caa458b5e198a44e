/*
 * Layer: os. Names for new files in directories that others can write to as well.
 */
#ifndef GP_OS_TMPDIR_H
#define GP_OS_TMPDIR_H

#include <stddef.h>

/* Where a short path can always be had, and where temporary files go without a TMPDIR. */
#define GP__SHORT_TMPDIR "/tmp"

/* Where temporary files go: TMPDIR, or /tmp. Borrowed from the environment. */
const char *gp__tmpdir(void);

/* Where sockets go: |directory| if there is one, else PLUGIN_UNIX_SOCKET_DIR, else gp__tmpdir(). */
const char *gp__socket_base(const char *directory);

enum { GP__RANDOM_NAME = 16 };

/* Fill |out| with that many random letters and digits and a terminating zero: about 80 bits. */
void gp__random_name(char out[GP__RANDOM_NAME + 1]);

/* A random number, for what need not be unpredictable. */
unsigned gp__random_number(void);

#endif
