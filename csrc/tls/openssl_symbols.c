#include "tls/openssl_symbols.h"

#ifdef GP_OPENSSL_LINKED

int
gp__openssl_load(gp_error *err)
{
    (void)err;
    return 0;
}

#else

#include "gen/libraries.h"
#include "os/library.h"

struct gp__openssl_symbols gp__openssl_symbols;

static gp__library library = {GP__OPENSSL_FILE, "OpenSSL", GP__OPENSSL_SYMBOLS,
                              &gp__openssl_symbols, NULL};

int
gp__openssl_load(gp_error *err)
{
    return gp__library_load(&library, err);
}

#endif
