/*
 * Layer: tls. OpenSSL's types and functions. Files include this in place of OpenSSL's own headers.
 *
 * OpenSSL is loaded on first use, since that takes 1 ms and 2 MiB, which a plugin without TLS does
 * not need to spend. Each function that can be the first one to use OpenSSL calls
 * gp__openssl_load(). openssl_symbols.txt has the names of OpenSSL's functions that are used, also
 * those behind OpenSSL's macros; os/library.h says how that works. The extension does not load if
 * it calls a function that is not listed.
 */
#ifndef GP_TLS_OPENSSL_SYMBOLS_H
#define GP_TLS_OPENSSL_SYMBOLS_H

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "gp/error.h"

#include "gen/tls/openssl_symbols.h"

/*
 * Load OpenSSL's library, unless that has been done. Threads: any.
 *
 * Returns: 0, GP_ELIBRARY, or GP_EOS when descriptors are short.
 */
int gp__openssl_load(gp_error *err);

#endif
