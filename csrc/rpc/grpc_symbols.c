#include "rpc/grpc_symbols.h"

#include "gen/libraries.h"
#include "os/library.h"

struct gp__grpc_symbols gp__grpc_symbols;

static gp__library library = {
    .file = GP__GRPC_FILE,
    .of = "gRPC",
    .bundled = GP__BUNDLED,
    .names = GP__GRPC_SYMBOLS,
    .table = &gp__grpc_symbols,
};

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
