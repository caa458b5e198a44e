/*
 * Layer: os. Directories that are made for sockets, and removed with them.
 *
 * A directory for this user alone is private. It may be claimed: a file in it is locked while a
 * process uses it, so that another process can remove it once the first one has been killed.
 */
#ifndef GP_OS_SOCKET_DIR_H
#define GP_OS_SOCKET_DIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "gp/error.h"

/* How the names of these directories begin. */
#define GP__SOCKET_DIR_PREFIX "plugin-dir"

/*
 * Make a directory in |base|, for this user alone (0700) or for the |group| as well (0770). |*out|
 * is its path, owned by the caller. Returns as gp__share_socket().
 */
int gp__socket_dir_make(char **out, const char *base, const char *group, gp_error *err);

/*
 * Make a private directory in |base| and claim it. The claim lasts as long as |*held| is open here
 * or in a fork of this process; -1: it cannot be claimed there. Returns as gp__socket_dir_make().
 */
int gp__socket_dir_make_claimed(char **out, int *held, const char *base, gp_error *err);

/*
 * Remove such a directory with the sockets in it, and with directories of this kind in it and their
 * sockets. If it holds anything else, that and the directory stay.
 */
void gp__socket_dir_remove(const char *directory);

/* Whether |name| is one that gp__socket_dir_make() gives. */
bool gp__socket_dir_is_name(const char *name);

/*
 * Open the directory |path| in the directory |at| (or AT_FDCWD), whose last component is |name|, if
 * it is a private one of |uid|. Returns: the caller's descriptor, or -1.
 */
int gp__socket_dir_open(int at, const char *name, const char *path, uid_t uid);

/* Whether a running process has claimed the private directory behind |fd|. */
bool gp__socket_dir_in_use(int fd);

/* Remove the claim from the private directory behind |fd|. */
void gp__socket_dir_unclaim(int fd);

/* Remove from |base| the claimed directories of |uid| whose processes have ended. */
void gp__socket_dir_sweep(const char *base, uid_t uid);

#endif
