#include "os/process/program.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/process/diagnosis.h"

/* Where to look for a program if the environment has no PATH: the same as Python's os.defpath. */
static const char default_path[] = "/bin:/usr/bin";

/* The value of |name| in |env|; NULL: it is not set. */
static const char *
find_env(const char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, len) == 0 && env[i][len] == '=') {
            return env[i] + len + 1;
        }
    }
    return NULL;
}

/* The PATH in which the program is looked for. */
static const char *
search_path(const gp__spawn_spec *spec)
{
    const char *path = find_env(spec->env, "PATH");

    return path != NULL ? path : default_path;
}

void
gp__program_free_candidates(char **candidates)
{
    for (size_t i = 0; candidates != NULL && candidates[i] != NULL; i++) {
        gp__free(candidates[i]);
    }
    gp__free(candidates);
}

char **
gp__program_candidates(const gp__spawn_spec *spec)
{
    const char *program = spec->image != NULL ? spec->image->path : spec->argv[0];
    bool direct = strchr(program, '/') != NULL;
    const char *path = direct ? "" : search_path(spec);
    size_t count = 1;
    char **candidates;

    for (const char *at = path; *at != '\0'; at++) {
        count += *at == ':';
    }
    candidates = gp__calloc(count + 1, sizeof(*candidates));
    if (candidates == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(path, ":");

        /* An empty entry stands for the working directory. */
        candidates[i] =
            len == 0 ? gp__strdup(program) : gp__format("%.*s/%s", (int)len, path, program);
        if (candidates[i] == NULL) {
            gp__program_free_candidates(candidates);
            return NULL;
        }
        path += path[len] == ':' ? len + 1 : len;
    }
    return candidates;
}

char *
gp__program_path_here(const gp__spawn_spec *spec, const char *path)
{
    if (path[0] == '/' || spec->directory == NULL) {
        return gp__strdup(path);
    }
    return gp__format("%s/%s", spec->directory, path);
}

/* The first of |candidates| that allows |mode|, owned by the caller; NULL: none, or no memory. */
static char *
find_candidate(const gp__spawn_spec *spec, char *const *candidates, int mode)
{
    char *found = NULL;

    for (size_t i = 0; candidates[i] != NULL && found == NULL; i++) {
        found = gp__program_path_here(spec, candidates[i]);
        if (found != NULL && access(found, mode) < 0) {
            gp__free(found);
            found = NULL;
        }
    }
    return found;
}

char *
gp__program_find(const gp__spawn_spec *spec)
{
    char **candidates = gp__program_candidates(spec);
    char *found = NULL;

    if (candidates != NULL) {
        found = find_candidate(spec, candidates, X_OK);
        found = found != NULL ? found : find_candidate(spec, candidates, F_OK);
    }
    gp__program_free_candidates(candidates);
    return found;
}

int
gp__program_not_found(const gp__spawn_spec *spec, gp_error *err)
{
    const char *program = spec->argv[0];
    char *path;
    int rc;

    if (strchr(program, '/') == NULL) {
        rc = gp_error_set(err, GP_ESTART, "cannot start %s: there is no such program in PATH (%s)",
                          program, search_path(spec));
        if (err != NULL) {
            err->number = ENOENT;
        }
        return rc;
    }
    path = gp__program_path_here(spec, program);
    rc = gp__cannot_start(err, program, path, ENOENT);
    gp__free(path);
    return rc;
}
