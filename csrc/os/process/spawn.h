/*
 * Layer: os. From an argument vector to a running child, without copying the host's memory.
 *
 * The child gets this process's stdin, the two given descriptors as stdout and stderr, and no other
 * descriptor; default signal dispositions and an empty mask; and the caller's process group, so
 * that Ctrl-C in the terminal reaches it as it reaches the host.
 *
 * On Linux the kernel also kills the child when this process ends, for whatever reason
 * (PR_SET_PDEATHSIG), unless the child runs a program with privileges of its own (set-user-id, file
 * capabilities). The kernel does so when the thread that has forked ends; therefore the reactor's
 * thread forks, which lives as long as the process. The child has the calling thread's priority and
 * CPUs nevertheless. A detached child is not killed, and has a session of its own, so that neither
 * a terminal's end nor its Ctrl-C reaches it.
 */
#ifndef GP_OS_PROCESS_SPAWN_H
#define GP_OS_PROCESS_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "gp/error.h"
#include "gp/template.h"
#include "os/process/sealed.h"

typedef struct gp__spawn_spec {
    const char *const *argv; /* borrowed; NULL-terminated, not empty */
    const char *const *env;  /* borrowed; NULL-terminated: all of the child's environment */
    const char *directory;   /* borrowed; NULL: the host's own */
    int in;                  /* becomes 0 in the child; less than 3: the host's own */
    int out;                 /* becomes 1 in the child; at least 3 */
    int err;                 /* becomes 2 in the child; at least 3 */
    bool detached;           /* survives this process */

    const gp__sealed *image; /* borrowed; run this instead of what argv[0] names; NULL: do not */
    gp_template *tmpl;       /* borrowed; copy this instead, if it lives; NULL: do not */
} gp__spawn_spec;

/*
 * Run a program (os/process/program.h says which file that is).
 *
 * Returns: 0 with |*pid| set once the program runs, or GP_ESTART (with a sentence on what is wrong
 * with the file), GP_ENOMEM, GP_EOS. Blocks until the exec. Threads: any.
 */
int gp__spawn(pid_t *pid, const gp__spawn_spec *spec, gp_error *err);

#endif
