#include "rpc/grpc_symbols.h"

#include <dlfcn.h>
#include <stddef.h>

#ifdef GP_GRPC_LINKED

int
gp__grpc_load(gp_error *err)
{
    (void)err;
    return 0;
}

void *
gp__grpc_find(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

#else

#include "gen/libraries.h"
#include "os/library.h"

struct gp__grpc_symbols gp__grpc_symbols;

static void *handle; /* NULL: not loaded. Guarded by the lock of grpc_library.c */

int
gp__grpc_load(gp_error *err)
{
    if (handle != NULL) {
        return 0;
    }
    return gp__library_load(&handle, GP__GRPC_FILE, "gRPC", GP__GRPC_SYMBOLS, &gp__grpc_symbols,
                            err);
}

void *
gp__grpc_find(const char *name)
{
    return dlsym(handle, name);
}

#endif
