/*
 * Layer: os. The sockets that a dead plugin has left behind, which its host removes.
 *
 * The plugin has named their paths, and the host may have rights that the plugin lacks. So a socket
 * is removed only if it belongs to the plugin's user and no other process listens on it, and if its
 * directory belongs to that user, or is one that the plugin was given for sockets and that user may
 * remove the socket from it. Never blocks for longer than a second.
 */
#ifndef GP_OS_LEFTOVER_H
#define GP_OS_LEFTOVER_H

#include <stddef.h>
#include <stdint.h>

#include "os/process/process.h"

enum { GP__LEFTOVER_DIRECTORIES = 4 };

typedef struct gp__leftover {
    gp__process *process; /* borrowed; has ended */
    /* Owned; absolute: the directories that it was given for its sockets. */
    char *directories[GP__LEFTOVER_DIRECTORIES];
    size_t count;
    int64_t deadline; /* for other directories, whose file systems may not answer */
} gp__leftover;

/* Make a leftover of |process|, which is borrowed. It has no directories yet. */
void gp__leftover_init(gp__leftover *leftover, gp__process *process);

/*
 * Add a directory, relative to |working| (NULL: this process's working directory). It is left out
 * if there is no memory for it.
 */
void gp__leftover_add(gp__leftover *leftover, const char *directory, const char *working);

/*
 * Remove the socket at |path|, which is absolute. If it is in a private directory that the plugin
 * has made for its sockets, remove all sockets there, and the directory.
 */
void gp__leftover_remove(const gp__leftover *leftover, const char *path);

/*
 * Remove the private directories that the dead process has claimed in the directories that it was
 * given.
 */
void gp__leftover_sweep(const gp__leftover *leftover);

void gp__leftover_release(gp__leftover *leftover);

#endif
