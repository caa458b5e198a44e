/*
 * Layer: os. Shared libraries that are loaded on first use, instead of with the extension, because
 * many processes never need them. Their functions are called through tables of pointers, which the
 * build makes from lists of names (NAME_symbols.txt): the table's members are the functions, and a
 * macro with the name of each function stands for the member, so that calls look as always.
 */
#ifndef GP_OS_LIBRARY_H
#define GP_OS_LIBRARY_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/error.h"

/* A library that may be loaded. Static; never unloaded. */
typedef struct gp__library {
    const char *file;     /* its name, as the dynamic linker knows it */
    const char *of;       /* whose it is, for messages */
    bool bundled;         /* |file| is a part of this package, not of the system */
    const char *names;    /* functions of it, or of libraries that it needs: strings one after the
                          other, of which the last is empty */
    void *table;          /* an array of as many pointers, which are filled in */
    void *_Atomic handle; /* for dlsym(); NULL: not loaded */
} gp__library;

/*
 * Load |library|, unless that has been done. Once this has returned 0, any thread may call the
 * functions. No other thread can fork meanwhile in any way that runs fork handlers.
 *
 * Threads: any. Takes the lock of gp__fork_hold(). Returns: 0, GP_ELIBRARY, or GP_EOS when
 * descriptors are short.
 */
int gp__library_load(gp__library *library, gp_error *err);

/*
 * The same for functions that |user|, another library, which is loaded, calls through a table of
 * its own: it has the variables char |names|[] and void *|table|[]. If it has not, it is linked
 * with |library|, and there is nothing to do.
 */
int gp__library_load_for(gp__library *library, const gp__library *user, const char *names,
                         const char *table, gp_error *err);

/*
 * The address of another function of |library|, which is loaded. NULL: this version does not have
 * it.
 */
void *gp__library_find(const gp__library *library, const char *name);

#endif
