#include "os/library.h"

#include <dlfcn.h>
#include <string.h>

int
gp__library_load(void **handle, const char *file, const char *of, const char *names, void *table,
                 gp_error *err)
{
    unsigned char *slot = table;
    void *opened = dlopen(file, RTLD_NOW | RTLD_LOCAL);

    if (opened == NULL) {
        return gp_error_set(err, GP_ELIBRARY,
                            "%s's library cannot be loaded: %s; install the package that has %s, "
                            "or build pygo_plugin again with the %s that is installed",
                            of, dlerror(), file, of);
    }
    for (const char *name = names; *name != '\0'; name += strlen(name) + 1) {
        void *found = dlsym(opened, name);

        if (found == NULL) {
            /* The library stays loaded: C++ libraries do not all survive dlclose(). */
            return gp_error_set(err, GP_ELIBRARY,
                                "%s's library is not the one that pygo_plugin was built with: %s "
                                "has no function %s; build pygo_plugin again with the %s that is "
                                "installed",
                                of, file, name, of);
        }
        memcpy(slot, &found, sizeof(found));
        slot += sizeof(found);
    }
    *handle = opened;
    return 0;
}
