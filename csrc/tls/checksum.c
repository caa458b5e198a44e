#include "tls/checksum.h"

#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "tls/openssl_symbols.h"

struct gp__checksum {
    EVP_MD_CTX *context; /* owned */
    bool failed;
};

/* Returns: 0, GP_EINVAL or GP_ELIBRARY. */
static int
find_digest(const EVP_MD **out, const char *hash, gp_error *err)
{
    const EVP_MD *digest;
    char quoted[GP__QUOTED];
    int rc = gp__openssl_load(err);

    if (rc < 0) {
        return rc;
    }
    digest = EVP_get_digestbyname(hash);
    if (digest == NULL || EVP_MD_get_size(digest) <= 0 ||
        EVP_MD_get_size(digest) > GP__CHECKSUM_MAX) {
        return gp_error_set(err, GP_EINVAL,
                            "unknown hash %s: expected \"sha256\", \"sha384\", \"sha512\" or the "
                            "name of another digest of OpenSSL's",
                            gp__quote(quoted, hash, strlen(hash)));
    }
    *out = digest;
    return 0;
}

int
gp_checksum_size(const char *hash, gp_error *err)
{
    const EVP_MD *digest;
    int rc = find_digest(&digest, hash, err);

    return rc < 0 ? rc : EVP_MD_get_size(digest);
}

int
gp__checksum_new(gp__checksum **out, const char *hash, gp_error *err)
{
    const EVP_MD *digest;
    gp__checksum *sum;
    int rc = find_digest(&digest, hash, err);

    if (rc < 0) {
        return rc;
    }
    sum = gp__calloc(1, sizeof(*sum));
    if (sum != NULL) {
        sum->context = EVP_MD_CTX_new();
    }
    if (sum == NULL || sum->context == NULL) {
        gp__checksum_free(sum);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a checksum");
    }
    if (EVP_DigestInit_ex(sum->context, digest, NULL) != 1) {
        /* The name is known, but this OpenSSL has switched the digest off, as it does with md4. */
        ERR_clear_error();
        gp__checksum_free(sum);
        return gp_error_set(err, GP_EINVAL, "the hash %s is not available in this OpenSSL", hash);
    }
    *out = sum;
    return 0;
}

void
gp__checksum_add(void *ctx, const void *bytes, size_t len)
{
    gp__checksum *sum = ctx;

    sum->failed = EVP_DigestUpdate(sum->context, bytes, len) != 1 || sum->failed;
}

int
gp__checksum_end(gp__checksum *sum, unsigned char out[GP__CHECKSUM_MAX], gp_error *err)
{
    unsigned len;

    if (sum->failed || EVP_DigestFinal_ex(sum->context, out, &len) != 1) {
        ERR_clear_error();
        return gp_error_set(err, GP_ENOMEM, "the checksum cannot be calculated");
    }
    return (int)len;
}

void
gp__checksum_free(gp__checksum *sum)
{
    if (sum != NULL) {
        EVP_MD_CTX_free(sum->context);
        gp__free(sum);
    }
}

int
gp__checksum_equal(const void *one, const void *other, size_t len)
{
    return CRYPTO_memcmp(one, other, len) == 0;
}
