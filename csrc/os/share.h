/*
 * Layer: os. What this user shares with a group: sockets, and directories for them.
 */
#ifndef GP_OS_SHARE_H
#define GP_OS_SHARE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "gp/error.h"

/* What the names of the directories that this makes begin with. */
#define GP__SHARE_PREFIX "plugin-dir"

/*
 * Let only this user connect to the socket |path| (0600), or, with a |group| (name or number; NULL
 * or "": none), that group as well (0660). Follows no symbolic link.
 *
 * Returns: 0, GP_EINVAL (no such group), GP_ENOMEM or GP_EOS (also: it is no socket of this
 * user's).
 */
int gp__share_socket(const char *path, const char *group, gp_error *err);

/* Whether anyone but this user and root may replace what is in a directory. */
bool gp__share_open_to_others(const struct stat *directory);

/*
 * Make a directory for sockets in |base|, for this user alone (0700) or for the |group| as well
 * (0770). |*out| is its path, owned by the caller. Returns as gp__share_socket().
 */
int gp__share_directory(char **out, const char *base, const char *group, gp_error *err);

/*
 * Remove such a directory and what is left in it of sockets, and of directories of this kind with
 * sockets; anything else stays, and so does it.
 */
void gp__share_remove(const char *directory);

/* Whether |name| is one that gp__share_directory() gives. */
bool gp__share_is_name(const char *name);

/*
 * Open the directory |path| in the directory |at| (or AT_FDCWD), whose last component is |name|, if
 * it is one of these that |uid| has made for itself alone. Returns: the caller's descriptor, or -1.
 */
int gp__share_open_private(int at, const char *name, const char *path, uid_t uid);

/* Whether the private directory behind |fd| is claimed by a process that lives. */
bool gp__share_in_use(int fd);

/* Remove the claim from the private directory behind |fd|. */
void gp__share_unclaim(int fd);

/*
 * Make one in |base| for this user alone, which is known to be in use as long as |*held| is open,
 * or a fork of this process has it; -1: that cannot be known there. Returns as
 * gp__share_directory().
 */
int gp__share_claim(char **out, int *held, const char *base, gp_error *err);

/*
 * Remove from |base| those of |uid|'s directories that were claimed, and whose processes were
 * killed.
 */
void gp__share_sweep(const char *base, uid_t uid);

#endif
