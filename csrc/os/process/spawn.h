/*
 * Layer: os. From an argument vector to a running child, without copying the host's memory.
 *
 * The child gets: stdin as it is, the two given descriptors as stdout and stderr, nothing else
 * open; default signal dispositions and an empty mask; the caller's process group, so that Ctrl-C
 * in the terminal reaches it as it reaches the host.
 *
 * On Linux it also dies (SIGKILL) with this process, whatever ends that, unless the kernel drops
 * the order because it runs a program with privileges of its own (set-user-id, file capabilities).
 * The order is bound to the thread that forks, so that is the reactor's, which lives as long as the
 * process; priority and CPUs are the caller's all the same. A detached child has no such order and
 * a session of its own instead: neither a terminal's end nor its Ctrl-C concerns it.
 */
#ifndef GP_OS_PROCESS_SPAWN_H
#define GP_OS_PROCESS_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "gp/error.h"
#include "os/process/sealed.h"

typedef struct gp__spawn_spec {
    const char *const *argv; /* borrowed; NULL-terminated, not empty */
    const char *const *env;  /* borrowed; NULL-terminated: all of the child's environment */
    const char *directory;   /* borrowed; NULL: the host's own */
    int in;                  /* becomes 0 in the child; less than 3: the host's own */
    int out;                 /* becomes 1 in the child; at least 3 */
    int err;                 /* becomes 2 in the child; at least 3 */
    bool detached;           /* survives this process */

    const gp__sealed *image; /* borrowed; run this and not what argv[0] names; NULL: that */
} gp__spawn_spec;

/*
 * Run a program. argv[0] is looked up as Python's subprocess does it: without a slash in the PATH
 * of |env|; with one, if relative, from |directory|.
 *
 * Returns: 0 with |*pid| set once the program runs, or GP_ESTART (with a sentence on what is wrong
 * with the file), GP_ENOMEM, GP_EOS. Blocks until the exec. Threads: any.
 */
int gp__spawn(pid_t *pid, const gp__spawn_spec *spec, gp_error *err);

/*
 * The path that gp__spawn() would run first, if it is there; NULL otherwise. Owned by the caller.
 * One that may be executed goes before one that may not.
 */
char *gp__spawn_find(const gp__spawn_spec *spec);

/* What gp__spawn() says when there is none. Returns GP_ESTART. */
int gp__spawn_not_found(const gp__spawn_spec *spec, gp_error *err);

#endif
