/*
 * Layer: os. What this user shares with a group: sockets, and directories for them.
 */
#ifndef GP_OS_SHARE_H
#define GP_OS_SHARE_H

#include <stdbool.h>
#include <sys/types.h>

#include "gp/error.h"

/*
 * Give |path| the mode |alone|, or, with a |group| (name or number; NULL or "": none), give it to that
 * group and the mode |shared|. Returns 0, GP_EINVAL (no such group), GP_ENOMEM or GP_EOS.
 */
int gp__share(const char *path, const char *group, mode_t alone, mode_t shared, gp_error *err);

/*
 * Make a directory for sockets in |base|, for this user alone (0700) or for the |group| as well (0770).
 * |*out| is its path, owned by the caller. Returns as gp__share().
 */
int gp__share_directory(char **out, const char *base, const char *group, gp_error *err);

/*
 * Remove such a directory and what is left in it of sockets, and of directories of this kind with sockets;
 * anything else stays, and so does it.
 */
void gp__share_remove(const char *directory);

/*
 * Remove what a plugin that was killed has left of the socket that it had announced. With |multiplexed|
 * that may be in a private directory, with all of its sockets, which goes as well.
 */
void gp__share_remove_socket(const char *path, bool multiplexed);

/*
 * Make one in |base| for this user alone, which is known to be in use as long as |*held| is open, or a fork
 * of this process has it; -1: that cannot be known there. Returns as gp__share_directory().
 */
int gp__share_claim(char **out, int *held, const char *base, gp_error *err);

/* Remove from |base| those of such directories that are not in use any more: their processes were killed. */
void gp__share_sweep(const char *base);

#endif
