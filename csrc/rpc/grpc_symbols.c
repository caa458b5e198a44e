#include "rpc/grpc_symbols.h"

#include "gen/libraries.h"
#include "os/library.h"

struct gp__grpc_symbols gp__grpc_symbols;

static gp__library library = {
    .file = GP__GRPC_FILE,
    .of = "gRPC",
    .bundled = GP__GRPC_BUNDLED,
    .names = GP__GRPC_SYMBOLS,
    .table = &gp__grpc_symbols,
};

static gp__library openssl = {
    .file = GP__OPENSSL_FILE,
    .of = "OpenSSL",
    .bundled = GP__OPENSSL_BUNDLED,
};

int
gp__grpc_load(gp_error *err)
{
    return gp__library_load(&library, err);
}

int
gp__grpc_load_openssl(gp_error *err)
{
    return gp__library_load_for(&openssl, &library, "gp__core_openssl_names",
                                "gp__core_openssl_table", err);
}

void *
gp__grpc_find(const char *name)
{
    return gp__library_find(&library, name);
}
