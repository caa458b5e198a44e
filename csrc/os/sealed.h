/*
 * Layer: os. A copy of an executable that nobody else can change any more: on Linux sealed, in memory,
 * elsewhere a file in a private directory. What has been looked at while it was copied is what runs,
 * whatever becomes of the original meanwhile.
 */
#ifndef GP_OS_SEALED_H
#define GP_OS_SEALED_H

#include <stdbool.h>
#include <stddef.h>

#include "gp/error.h"

typedef struct gp__sealed {
    int fd;       /* owned; -1 unless it is in memory */
    char *path;   /* owned; what to execute. With |fd|, seen from a process that has it */
    char *origin; /* owned; what it is a copy of, for messages */
    bool script;  /* its interpreter opens |path| once more */
} gp__sealed;

#define GP__SEALED_INIT {-1, NULL, NULL, false}

/*
 * Copy the regular file |path|; |see| is called for each piece.
 * Returns: 0, GP_ESTART (it cannot be read, or not be executed), GP_ENOMEM or GP_EOS.
 */
int gp__sealed_copy(gp__sealed *out, const char *path,
                    void (*see)(void *ctx, const void *bytes, size_t len), void *ctx,
                    gp_error *err);

/* Once it runs, and its interpreter has read it, or not at all. Idempotent. */
void gp__sealed_release(gp__sealed *sealed);

#endif
