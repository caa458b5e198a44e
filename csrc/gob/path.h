/*
 * Layer: gob. Errors, and where in a value something is wrong: "Order.Items[3].Price".
 *
 * Paths are best effort: what memory does not suffice for is left out, and so is what makes a path
 * very long.
 */
#ifndef GP_GOB_PATH_H
#define GP_GOB_PATH_H

#include <stddef.h>

#include "base/buf.h"
#include "gp/gob.h"

void gp__gob_path_field(gp__buf *path, const char *name);
void gp__gob_path_any(gp__buf *path); /* some element or entry */
void gp__gob_path_index(gp__buf *path, size_t index);

/* The entry of a map. |key| are the bytes of its key, of that kind, and maybe of more. */
void gp__gob_path_entry(gp__buf *path, gp_gob_kind kind, const unsigned char *key, size_t len);

/* A word in parentheses: what an interface holds, or that it is about a key. */
void gp__gob_path_remark(gp__buf *path, const void *text, size_t len);

/*
 * Finish an error: GP_EGOB as "PATH: MESSAGE", with PATH as its detail. For any other |code|
 * nothing but the path is recorded with GP_EUSER, and the path with the text of the code otherwise.
 * Releases |path|.
 *
 * Returns: |code|.
 */
int gp__gob_fail(gp_error *err, int code, gp__buf *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Record that bytes are no gob. Returns GP_EGOB. */
int gp__gob_corrupt(gp_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
