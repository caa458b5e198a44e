/*
 * Layer: os. Shared libraries that are loaded on first use, instead of with the extension, because
 * many processes never need them. Their functions are called through tables of pointers, which the
 * build makes from lists of names (NAME_symbols.txt): the table's members are the functions, and a
 * macro with the name of each function stands for the member, so that calls look as always.
 */
#ifndef GP_OS_LIBRARY_H
#define GP_OS_LIBRARY_H

#include "gp/error.h"

/*
 * Load the library |file|, which is then never unloaded, and find the symbols |names| in it and in
 * the libraries that it needs. |names| are strings one after the other, of which the last is empty;
 * |table| is an array of as many pointers, to be filled. |of| is whose library it is, for messages.
 *
 * Returns: 0 with |*handle| for dlsym(), or GP_ELIBRARY; the table is then incomplete.
 */
int gp__library_load(void **handle, const char *file, const char *of, const char *names,
                     void *table, gp_error *err);

#endif
