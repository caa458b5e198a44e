/*
 * Layer: os. Which file a gp__spawn_spec names. argv[0] is looked up as Python's subprocess does
 * it: without a slash in the PATH of |env|; with one, if relative, from |directory|. Threads: any.
 */
#ifndef GP_OS_PROCESS_PROGRAM_H
#define GP_OS_PROCESS_PROGRAM_H

#include "os/process/spawn.h"

/*
 * The paths to try, in order, NULL-terminated, as the child has to write them: they may be relative
 * to its working directory. NULL: out of memory.
 */
char **gp__program_candidates(const gp__spawn_spec *spec);
void gp__program_free_candidates(char **candidates);

/* A path of the child's as one of this process. Owned by the caller; NULL: out of memory. */
char *gp__program_path_here(const gp__spawn_spec *spec, const char *path);

/*
 * The path of the file that gp__spawn() would run: the first one that exists and may be executed,
 * or else the first one that exists; NULL: there is none. Owned by the caller.
 */
char *gp__program_find(const gp__spawn_spec *spec);

/* Set the error that gp__spawn() reports if there is no such file. Returns GP_ESTART. */
int gp__program_not_found(const gp__spawn_spec *spec, gp_error *err);

#endif
