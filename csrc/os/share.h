/*
 * Layer: os. Which users may use a socket or a directory: this one alone, or a group as well.
 */
#ifndef GP_OS_SHARE_H
#define GP_OS_SHARE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "gp/error.h"

/*
 * Let only this user connect to the socket |path| (0600), or, with a |group| (name or number; NULL
 * or "": none), that group as well (0660). Follows no symbolic link.
 *
 * Returns: 0, GP_EINVAL (there is no such group), GP_ENOMEM or GP_EOS (also: |path| is not a socket
 * of this user).
 */
int gp__share_socket(const char *path, const char *group, gp_error *err);

/*
 * Give the file behind |fd| the mode |alone|, or, with a |group|, that group and the mode |shared|.
 * |path| is for messages. |fd| may be open with O_PATH. In contrast to a path, what a descriptor
 * refers to cannot be replaced by another user. Returns as gp__share_socket().
 */
int gp__share_descriptor(int fd, const char *path, const char *group, mode_t alone, mode_t shared,
                         gp_error *err);

/*
 * Set GP_EOS: another user has replaced the |what| ("socket") that was made at |path|. Returns it.
 */
int gp__share_not_ours(const char *path, const char *what, gp_error *err);

/* Whether a user other than this one and root may replace what is in a directory. */
bool gp__share_open_to_others(const struct stat *directory);

#endif
