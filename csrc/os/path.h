/*
 * Layer: os. Paths as text.
 */
#ifndef GP_OS_PATH_H
#define GP_OS_PATH_H

#include <stddef.h>

/*
 * |path|, of |len| bytes, as an absolute path: below |directory| (NULL: the working directory) if
 * it is relative, without repeated slashes, "." and a slash at its end. |directory| may be
 * relative, too. ".." stays, since it means something else behind a symbolic link.
 *
 * Returns: a string that the caller frees, or NULL: out of memory, or there is no working
 * directory.
 */
char *gp__path_absolute(const char *path, size_t len, const char *directory);

/* The last component of an absolute path. Borrowed from |path|. */
const char *gp__path_name(const char *path);

/* The directory that an absolute path is in. Returns: a string that the caller frees, or NULL. */
char *gp__path_parent(const char *path);

/*
 * |path| as it follows "unix:" in an address for gRPC: with %XX for characters that have a meaning
 * in a URI or are not ASCII. Returns: a string that the caller frees, or NULL: out of memory.
 */
char *gp__path_escape(const char *path);

/* The reverse of gp__path_escape(), which returns as that does; a % without two digits stays. */
char *gp__path_unescape(const char *text);

#endif
