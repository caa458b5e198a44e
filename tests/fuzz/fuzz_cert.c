/* Any bytes as the certificate in a plugin's handshake line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "tls/cert.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_error err = GP_ERROR_INIT;
    char *pem = NULL;
    int rc = gp__cert_from_field(&pem, (const char *)data, size, &err);

    if (rc == 0) {
        CHECK(strncmp(pem, "-----BEGIN CERTIFICATE-----", 27) == 0);
        gp__free(pem);
    } else {
        CHECK(rc == GP_ETLS && err.code == rc && gp_error_message(&err)[0] != '\0');
    }
    gp_error_release(&err);
    return 0;
}
