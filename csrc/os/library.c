#include "os/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fork.h"

static int
find_all(gp__library *library, void *handle, gp_error *err)
{
    unsigned char *slot = library->table;

    for (const char *name = library->names; *name != '\0'; name += strlen(name) + 1) {
        void *found = dlsym(handle, name);

        if (found == NULL) {
            return gp_error_set(err, GP_ELIBRARY,
                                "%s's library is not the one that pygo_plugin was built with: %s "
                                "has no function %s; build pygo_plugin again with the %s that is "
                                "installed",
                                library->of, library->file, name, library->of);
        }
        memcpy(slot, &found, sizeof(found));
        slot += sizeof(found);
    }
    return 0;
}

/* dlopen() needs a descriptor, and does not set errno if there is none. */
static int
check_descriptors(const gp__library *library, gp_error *err)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return gp_error_set_errno(err, errno, "%s's library cannot be loaded", library->of);
    }
    close(fd);
    return 0;
}

/* With the lock of gp__fork_hold(). */
static int
load(gp__library *library, gp_error *err)
{
    void *handle;
    int rc = check_descriptors(library, err);

    if (rc < 0) {
        return rc;
    }
    handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        if (library->bundled) {
            return gp_error_set(err, GP_ELIBRARY,
                                "%s's library cannot be loaded: %s; %s is a part of pygo_plugin, "
                                "which has to be installed again if it is missing",
                                library->of, dlerror(), library->file);
        }
        return gp_error_set(err, GP_ELIBRARY,
                            "%s's library cannot be loaded: %s; if it is missing, install the "
                            "package that has %s, or build pygo_plugin again with the %s that is "
                            "installed",
                            library->of, dlerror(), library->file, library->of);
    }
    /* If a function is missing, the library stays: not all libraries in C++ survive dlclose(). */
    if ((rc = find_all(library, handle, err)) == 0) {
        atomic_store_explicit(&library->handle, handle, memory_order_release);
    }
    return rc;
}

static bool
is_loaded(const gp__library *library)
{
    return atomic_load_explicit(&library->handle, memory_order_acquire) != NULL;
}

int
gp__library_load(gp__library *library, gp_error *err)
{
    int rc = 0;

    if (is_loaded(library)) {
        return 0;
    }
    gp__fork_hold();
    if (!is_loaded(library)) {
        rc = load(library, err);
    }
    gp__fork_release();
    return rc;
}

int
gp__library_load_for(gp__library *library, const gp__library *user, const char *names,
                     const char *table, gp_error *err)
{
    int rc = 0;

    if (is_loaded(library)) {
        return 0;
    }
    gp__fork_hold();
    library->names = gp__library_find(user, names);
    library->table = gp__library_find(user, table);
    if (library->names != NULL && !is_loaded(library)) {
        rc = load(library, err);
    }
    gp__fork_release();
    return rc;
}

void *
gp__library_find(const gp__library *library, const char *name)
{
    return dlsym(library->handle, name);
}
