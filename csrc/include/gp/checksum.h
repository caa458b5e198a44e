/*
 * Layer: public. Checksums of executables, by any digest that OpenSSL knows the name of.
 */
#ifndef GP_CHECKSUM_H
#define GP_CHECKSUM_H

#include "gp/error.h"

/*
 * How many bytes |hash| ("sha256", say) gives. Returns that, or GP_EINVAL: there is no such digest.
 */
int gp_checksum_size(const char *hash, gp_error *err);

#endif
