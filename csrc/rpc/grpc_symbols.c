#include "rpc/grpc_symbols.h"

#ifdef GP_GRPC_LINKED

#include <dlfcn.h>
#include <stddef.h>

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

static gp__library library = {GP__GRPC_FILE, "gRPC", GP__GRPC_SYMBOLS, &gp__grpc_symbols, NULL};

int
gp__grpc_load(gp_error *err)
{
    return gp__library_load(&library, err);
}

void *
gp__grpc_find(const char *name)
{
    return gp__library_find(&library, name);
}

#endif
