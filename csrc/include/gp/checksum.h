/*
 * Layer: public. Checksums of executables, by any digest that OpenSSL has.
 */
#ifndef GP_CHECKSUM_H
#define GP_CHECKSUM_H

#include "gp/error.h"

/*
 * Returns: the number of bytes of the digest |hash| ("sha256", say), GP_EINVAL (there is none of
 * that name) or GP_ELIBRARY.
 */
int gp_checksum_size(const char *hash, gp_error *err);

#endif
