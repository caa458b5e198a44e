/*
 * Layer: os. Paths of files, as text.
 */
#ifndef GP_OS_PATH_H
#define GP_OS_PATH_H

#include <stddef.h>

/*
 * |path|, of |len| bytes, as an absolute path: below |directory| (NULL: the working directory) if
 * it is relative, without repeated slashes, "." and a slash at its end. |directory| may be
 * relative, too. ".." stays, since it means something else behind a symbolic link.
 *
 * Returns: a string that the caller frees, or NULL: out of memory, or no working directory.
 */
char *gp__path_absolute(const char *path, size_t len, const char *directory);

/* Where the last component of an absolute path begins. */
const char *gp__path_name(const char *path);

/* The directory that an absolute path is in. Returns: a string that the caller frees, or NULL. */
char *gp__path_parent(const char *path);

/*
 * |path| with %XX for all that means something in a URI, and for what is no ASCII: what stands
 * behind the "unix:" of an address of gRPC's. Returns: a string that the caller frees, or NULL: out
 * of memory.
 */
char *gp__path_escape(const char *path);

/* The reverse, of what is behind that "unix:"; what is no %XX stays. Likewise. */
char *gp__path_unescape(const char *text);

#endif
