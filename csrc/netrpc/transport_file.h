/*
 * Layer: netrpc. A stream of a transport as a file: reads and writes that block, with a deadline,
 * or are tried and repeated, for event loops. What has come and is not read is stored, up to the
 * stream's window; then the sender is blocked. What is written and the other side does not read
 * blocks the writer.
 *
 * Threads: any; one may read, one write, and others close it meanwhile. Freed when no thread uses
 * it.
 */
#ifndef GP_NETRPC_TRANSPORT_FILE_H
#define GP_NETRPC_TRANSPORT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/task.h"
#include "gp/runtime.h"
#include "netrpc/transport.h"

typedef struct gp__transport_file gp__transport_file;

/*
 * Make a file of |stream|, which it owns, also when this fails. It takes a reference of the
 * transport. Returns: 0 or GP_ENOMEM.
 */
int gp__transport_file_new_locked(gp__transport_file **out, gp__transport_stream *stream,
                                  gp_error *err) GP_REQUIRES(&stream->transport->lock);

/* Close and free it. NULL is fine. */
void gp__transport_file_free(gp__transport_file *file);

/*
 * Read at most |size| bytes, at least one of them. A |deadline| of 0 does not wait.
 *
 * Returns: how many; 0 at the end; GP_ETIMEOUT; GP_EUSER; GP_ECLOSED (this side has closed the
 * file, or the stream or its connection is lost); GP_EFORKED.
 */
ptrdiff_t gp__transport_file_read(gp__transport_file *file, void *bytes, size_t size,
                                  int64_t deadline, const gp_interrupt *interrupt, gp_error *err);

/*
 * Write |len| bytes; |*written| is how many of them were written, also when this fails. They are
 * sent at once.
 *
 * Returns: 0 when all are written, or as gp__transport_file_read().
 */
int gp__transport_file_write(gp__transport_file *file, const void *bytes, size_t len,
                             size_t *written, int64_t deadline, const gp_interrupt *interrupt,
                             gp_error *err);

/* Tell the other side that nothing more will be written. It may go on sending, and be read. */
void gp__transport_file_shutdown(gp__transport_file *file);

/* End both directions. Threads that read or write it get GP_ECLOSED. Idempotent. */
void gp__transport_file_close(gp__transport_file *file);

/*
 * A wait by an event loop for |events|, GP__STREAM_READ or GP__STREAM_WRITE: once the file is ready
 * for one of them (or closed), |task| runs as a deferred task (gp__transport_defer_locked()).
 */
typedef struct gp__transport_file_wait {
    gp__task task;
    gp_link link; /* in the file's list */
    unsigned events;
} gp__transport_file_wait;

/* Returns whether |wait| has been added: otherwise the file is ready now, and the task never runs. */
bool gp__transport_file_add_wait(gp__transport_file *file, gp__transport_file_wait *wait);

/* Returns whether |wait| was removed: otherwise its task has run, runs, or is about to. */
bool gp__transport_file_remove_wait(gp__transport_file *file, gp__transport_file_wait *wait);

#endif
