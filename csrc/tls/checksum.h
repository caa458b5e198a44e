/*
 * Layer: tls. Computes checksums.
 */
#ifndef GP_TLS_CHECKSUM_H
#define GP_TLS_CHECKSUM_H

#include <stddef.h>

#include "gp/checksum.h"

enum { GP__CHECKSUM_MAX = 64 };

typedef struct gp__checksum gp__checksum;

/* Returns: 0, GP_EINVAL (there is no such digest), GP_ELIBRARY or GP_ENOMEM. */
int gp__checksum_new(gp__checksum **out, const char *hash, gp_error *err);

/* |ctx| is the gp__checksum. Failures show at the end. */
void gp__checksum_add(void *ctx, const void *bytes, size_t len);

/* Returns: the length, or GP_ENOMEM. Nothing may be added afterwards. */
int gp__checksum_end(gp__checksum *sum, unsigned char out[GP__CHECKSUM_MAX], gp_error *err);

void gp__checksum_free(gp__checksum *sum);

/* Whether they are the same. How long it takes does not tell where they differ. */
int gp__checksum_equal(const void *one, const void *other, size_t len);

#endif
