/*
 * Layer: os. The sockets that a dead plugin has left behind, which its host removes.
 *
 * The plugin names their paths, and the host may have rights that the plugin lacks. What goes is a
 * socket of the plugin's user, to which nobody else listens, in a directory that belongs to that
 * user, or that the plugin was given for sockets and in which that user may remove it. Never blocks
 * for longer than a second.
 */
#ifndef GP_OS_LEFTOVER_H
#define GP_OS_LEFTOVER_H

#include <stddef.h>
#include <stdint.h>

#include "os/process/process.h"

enum { GP__LEFTOVER_DIRECTORIES = 4 };

typedef struct gp__leftover {
    gp__process *process; /* borrowed; dead */
    char
        *directories[GP__LEFTOVER_DIRECTORIES]; /* owned; absolute: what it was given for sockets */
    size_t count;
    int64_t deadline; /* for directories that it was not given, which may not answer */
} gp__leftover;

/* |process| is borrowed; its directories are to be added. */
void gp__leftover_init(gp__leftover *leftover, gp__process *process);

/* Add a directory, relative to |working| (NULL: this process's). Memory that is short costs it. */
void gp__leftover_add(gp__leftover *leftover, const char *directory, const char *working);

/*
 * Remove the socket at |path|, absolute, and, if it lies in a private directory that the plugin has
 * made for its sockets, all of them, and the directory.
 */
void gp__leftover_remove(const gp__leftover *leftover, const char *path);

/*
 * Remove the private directories that the dead process has claimed in the directories that it was
 * given.
 */
void gp__leftover_sweep(const gp__leftover *leftover);

void gp__leftover_release(gp__leftover *leftover);

#endif
