/*
 * Layer: public. A stream of bytes in both directions, between a host and a plugin that speak
 * net/rpc: reads and writes that block, with a deadline, or are tried and repeated, for event
 * loops. What has come and is not read is stored, up to the stream's window; then the sender is
 * blocked. What is written and the other side does not read blocks the writer.
 *
 * Threads: any; one may read, one write, and others close it meanwhile. Freed when no thread uses
 * it.
 */
#ifndef GP_NETRPC_FILE_H
#define GP_NETRPC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/message.h"
#include "gp/runtime.h"

typedef struct gp_netrpc_file gp_netrpc_file;

/* Close and free it. NULL is fine. */
void gp_netrpc_file_free(gp_netrpc_file *file);

/*
 * Read at most |size| bytes, at least one of them. A |deadline| of 0 does not wait.
 *
 * Returns: how many; 0 at the end; GP_ETIMEOUT; GP_EUSER; GP_ECLOSED (this side has closed the
 * file, or the stream or its connection is lost); GP_EFORKED.
 */
ptrdiff_t gp_netrpc_file_read(gp_netrpc_file *file, void *bytes, size_t size, int64_t deadline,
                              const gp_interrupt *interrupt, gp_error *err);

/*
 * Write |len| bytes; |*written| is how many of them were written, also when this fails. They are
 * sent at once.
 *
 * Returns: 0 when all are written, or as gp_netrpc_file_read().
 */
int gp_netrpc_file_write(gp_netrpc_file *file, const void *bytes, size_t len, size_t *written,
                         int64_t deadline, const gp_interrupt *interrupt, gp_error *err);

/* Tell the other side that nothing more will be written. It may go on sending, and be read. */
void gp_netrpc_file_shutdown(gp_netrpc_file *file);

/* End both directions. Threads that read or write it get GP_ECLOSED. Idempotent. */
void gp_netrpc_file_close(gp_netrpc_file *file);

/*
 * Have |then|(|ctx|) called once, when the file can be read (or written, if |writing|) or is
 * closed: on a thread that must not block or enter Python.
 *
 * Returns: 1; 0 if that is so now, and GP_ENOMEM: then |then| is not called.
 */
int gp_netrpc_file_when_ready(gp_netrpc_file *file, bool writing, gp_then *then, void *ctx);

#endif
