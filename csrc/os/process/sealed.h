/*
 * Layer: os. A copy of an executable that nobody else can change any more: on Linux sealed, in
 * memory, elsewhere a file in a private directory. What has been looked at while it was copied is
 * what runs, whatever becomes of the original meanwhile.
 *
 * gp__sealed_open(), then gp__sealed_look() as often as is wanted, then gp__sealed_copy() once.
 */
#ifndef GP_OS_PROCESS_SEALED_H
#define GP_OS_PROCESS_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

typedef struct gp__sealed {
    int fd;        /* owned; -1 unless it is in memory */
    char *path;    /* owned; what to execute. With |fd|, seen from a process that has it */
    char *origin;  /* owned; what it is a copy of, for messages */
    bool script;   /* its interpreter opens |path| once more */
    int original;  /* owned; the file to be copied, until it has been; -1: none */
    uint64_t size; /* of the original, when it was opened */
    uint64_t most; /* how much of it is read before it counts as too large */
} gp__sealed;

#define GP__SEALED_INIT {-1, NULL, NULL, false, -1, 0, 0}

/* Who sees the pieces of a file as it is read, and what ends the reading early. */
typedef struct gp__sealed_reader {
    void (*see)(void *ctx, const void *bytes, size_t len);
    void *ctx;
    int64_t deadline;
    const gp_interrupt *interrupt; /* borrowed; may be NULL */
} gp__sealed_reader;

/*
 * Open the regular file |path|. One of more than |most| bytes is refused, as it is later on if it
 * grows.
 * Returns: 0, GP_ESTART (it cannot be read or executed, or is too large) or GP_ENOMEM.
 */
int gp__sealed_open(gp__sealed *out, const char *path, uint64_t most, gp_error *err);

/*
 * Read the file from its beginning. Returns: 0, GP_ESTART (it is too large, or reading failed),
 * GP_ENOMEM, GP_ETIMEOUT or GP_EUSER.
 */
int gp__sealed_look(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err);

/* Do so and copy it. As gp__sealed_look(), and GP_EOS when there is no room for a copy. */
int gp__sealed_copy(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err);

/* Once it runs, and its interpreter has read it, or not at all. Idempotent. */
void gp__sealed_release(gp__sealed *sealed);

#endif
