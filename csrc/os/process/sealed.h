/*
 * Layer: os. A copy of an executable that cannot be changed: on Linux sealed, in memory; on other
 * systems a file in a private directory. The bytes that were read while it was copied are those
 * that run, even if the original changes meanwhile.
 *
 * Call gp__sealed_open(), then gp__sealed_look() any number of times, then gp__sealed_copy() once.
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
    char *path;    /* owned; what to execute; if |fd| is not -1, in a process that has |fd| */
    char *origin;  /* owned; the path of the original, for messages */
    bool script;   /* it begins with #!: its interpreter opens |path| again */
    int original;  /* owned; the file to be copied, until it has been; -1: none */
    uint64_t size; /* of the original, when it was opened */
    uint64_t most; /* the size in bytes beyond which it is too large */
} gp__sealed;

#define GP__SEALED_INIT {-1, NULL, NULL, false, -1, 0, 0}

/* A callback for the pieces of a file as it is read, and limits that end the reading early. */
typedef struct gp__sealed_reader {
    void (*see)(void *ctx, const void *bytes, size_t len);
    void *ctx;
    int64_t deadline;
    const gp_interrupt *interrupt; /* borrowed; may be NULL */
} gp__sealed_reader;

/*
 * Open the regular file |path|. A file of more than |most| bytes is refused, now or when it is
 * read.
 *
 * Returns: 0, GP_ESTART (it cannot be read or executed, or is too large) or GP_ENOMEM.
 */
int gp__sealed_open(gp__sealed *out, const char *path, uint64_t most, gp_error *err);

/*
 * Read the file from its beginning. Returns: 0, GP_ESTART (it is too large, or reading failed),
 * GP_ENOMEM, GP_ETIMEOUT or GP_EUSER.
 */
int gp__sealed_look(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err);

/*
 * Read the file from its beginning and copy it. Returns as gp__sealed_look(), or GP_EOS: there is
 * no room for a copy.
 */
int gp__sealed_copy(gp__sealed *sealed, const gp__sealed_reader *reader, gp_error *err);

/*
 * Free it all, and remove a copy in a file: once the program runs and its interpreter has read it,
 * or if it is not to be run. Idempotent.
 */
void gp__sealed_release(gp__sealed *sealed);

#endif
