/*
 * Layer: os. From an argument vector to a running child, without copying the host's memory.
 *
 * The child gets: stdin as it is, the two given descriptors as stdout and stderr, nothing else open;
 * default signal dispositions and an empty mask; the caller's process group, so that Ctrl-C in the
 * terminal reaches it as it reaches the host.
 */
#ifndef GP_OS_SPAWN_H
#define GP_OS_SPAWN_H

#include <sys/types.h>

#include "gp/error.h"

typedef struct gp__spawn_spec {
    const char *const *argv; /* borrowed; NULL-terminated, not empty */
    const char *const *env;  /* borrowed; NULL-terminated: all of the child's environment */
    const char *directory;   /* borrowed; NULL: the host's own */
    int out;                 /* becomes 1 in the child; at least 3 */
    int err;                 /* becomes 2 in the child; at least 3 */
} gp__spawn_spec;

/*
 * Run a program. argv[0] is looked up as Python's subprocess does it: without a slash in the PATH of
 * |env|; with one, if relative, from |directory|.
 *
 * Returns: 0 with |*pid| set once the program runs, or GP_ESTART (with a sentence on what is wrong
 * with the file), GP_ENOMEM, GP_EOS. Blocks until the exec. Threads: any.
 */
int gp__spawn(pid_t *pid, const gp__spawn_spec *spec, gp_error *err);

/* The path that gp__spawn() would run first, if it is there; NULL otherwise. Owned by the caller. */
char *gp__spawn_find(const gp__spawn_spec *spec);

#endif
