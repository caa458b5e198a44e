#include "tls/openssl_symbols.h"

#include "gen/libraries.h"
#include "os/library.h"

struct gp__openssl_symbols gp__openssl_symbols;

static gp__library library = {
    .file = GP__OPENSSL_FILE,
    .of = "OpenSSL",
    .bundled = GP__OPENSSL_BUNDLED,
    .names = GP__OPENSSL_SYMBOLS,
    .table = &gp__openssl_symbols,
};

int
gp__openssl_load(gp_error *err)
{
    return gp__library_load(&library, err);
}
