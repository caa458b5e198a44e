/*
 * Layer: plugin. A plugin's stderr on its way to a log sink.
 *
 *      pipe --read, split, parse--> pending batch --swap--> sink
 *           (the reactor's thread)                (the delivery thread)
 *
 * There is one pending batch. Output that arrives is added to it until the delivery thread takes
 * it, so a slow sink gets few large batches. When it is full, the pipe is not read until the batch
 * has been delivered: then the plugin blocks on a full pipe, and other plugins are not affected.
 *
 * The owner uses a mirror from one thread at a time. |lock| guards what the reader and the delivery
 * thread share. It is taken before the locks of the reactor and of the delivery queue, and never
 * held during a callback.
 */
#ifndef GP_PLUGIN_MIRROR_H
#define GP_PLUGIN_MIRROR_H

#include <stdint.h>

#include "gp/error.h"
#include "gp/log.h"
#include "gp/runtime.h"
#include "os/process/tail.h"

typedef struct gp__mirror gp__mirror;

/*
 * Start to read |fd|, which must be non-blocking, and to add what is read to |tail|. On success the
 * mirror owns |fd| and the sink. |tail| must exist until the mirror is closed. |buffer_size| is the
 * length of the longest line, 0 for the default.
 */
int gp__mirror_open(gp__mirror **out, int fd, gp__tail *tail, const gp_log_sink *sink,
                    size_t buffer_size, gp_error *err);

/*
 * Add a line that the host itself logs, at the level GP_WARN. To be called on the reactor's thread,
 * before finish.
 */
void gp__mirror_add(gp__mirror *mirror, const char *message);

/*
 * The process is dead: read what is left in the pipe, and no more, even if a child of the process
 * still has the other end. Does not wait for the delivery. Idempotent.
 */
void gp__mirror_finish(gp__mirror *mirror);

/*
 * Wait until everything read so far has been delivered. On the delivery thread, which can't wait
 * for itself, it returns at once. Returns: 0, GP_ETIMEOUT or GP_EUSER.
 */
int gp__mirror_flush(gp__mirror *mirror, int64_t deadline, const gp_interrupt *interrupt);

/*
 * Close the mirror. Output that was read is still delivered; then the sink is released. NULL is
 * fine.
 */
void gp__mirror_close(gp__mirror *mirror);

#endif
