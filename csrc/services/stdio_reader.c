#include "base/alloc.h"
#include "base/thread.h"
#include "gp/container.h"
#include "gp/services.h"
#include "os/stdio_state.h"
#include "services/stdio_message.h"

/* All fields except |copy| are guarded by the lock of its gp_stdio. */
struct gp_stdio_reader {
    gp__stdio_consumer consumer;
    gp_bytes given;      /* borrowed: the gp_stdio's, while the consumer is busy */
    unsigned char *copy; /* owned; the message that was returned last */
    bool closed;
};

static gp_stdio_reader *
reader_of(gp__stdio_consumer *consumer)
{
    return gp_container_of(consumer, gp_stdio_reader, consumer);
}

static bool
give_to_reader(gp__stdio_consumer *self, const gp__stdio_chunk *chunk)
{
    reader_of(self)->given = gp__stdio_message(chunk);
    gp_cond_broadcast(&self->stdio->changed);
    return true;
}

static void
end_reader(gp__stdio_consumer *self, bool busy)
{
    (void)busy;
    gp_mutex_lock(&self->stdio->lock);
    reader_of(self)->closed = true;
    reader_of(self)->given.len = 0;
    gp_cond_broadcast(&self->stdio->changed);
    gp_mutex_unlock(&self->stdio->lock);
}

static void
free_reader(gp__stdio_consumer *self)
{
    gp__free(reader_of(self)->copy);
    gp__free(reader_of(self));
}

int
gp_stdio_reader_new(gp_stdio_reader **out, gp_stdio *stdio, gp_error *err)
{
    gp_stdio_reader *reader = gp__calloc(1, sizeof(*reader));

    if (reader == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a reader of stdout and stderr");
    }
    reader->consumer = (gp__stdio_consumer){.stdio = gp_stdio_ref(stdio),
                                            .refs = 1,
                                            .give = give_to_reader,
                                            .end = end_reader,
                                            .free = free_reader};
    gp_mutex_lock(&stdio->lock);
    gp__stdio_append_locked(stdio, &reader->consumer);
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    *out = reader;
    return 0;
}

/* Copy the given message, so that it outlives a close. Returns 1 or GP_ENOMEM. */
static int
copy_given_message(gp_stdio_reader *reader, gp_bytes *out)
{
    gp__free(reader->copy);
    reader->copy = (unsigned char *)gp__memdup(reader->given.data, reader->given.len);
    *out = (gp_bytes){reader->copy, reader->given.len};
    reader->given.len = 0;
    return reader->copy != NULL ? 1 : GP_ENOMEM;
}

int
gp_stdio_reader_next(gp_stdio_reader *reader, gp_bytes *out, const gp_interrupt *interrupt)
{
    gp_stdio *stdio = reader->consumer.stdio;
    int rc = 0;

    if (gp_runtime_forked()) {
        return 0;
    }
    gp_mutex_lock(&stdio->lock);
    if (reader->given.len == 0) {
        reader->consumer.busy = false;
    }
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    gp_mutex_lock(&stdio->lock);
    while (rc == 0 && reader->given.len == 0 && !reader->closed) {
        rc = gp__cond_wait_interruptible(&stdio->changed, &stdio->lock, GP__FOREVER, interrupt);
    }
    if (rc == 0 && !reader->closed) {
        rc = copy_given_message(reader, out);
    }
    gp_mutex_unlock(&stdio->lock);
    return rc;
}

void
gp_stdio_reader_close(gp_stdio_reader *reader)
{
    gp_stdio *stdio = reader->consumer.stdio;

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&stdio->lock);
    reader->closed = true;
    reader->given.len = 0;
    gp__stdio_remove_locked(stdio, &reader->consumer);
    gp_cond_broadcast(&stdio->changed);
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
}

void
gp_stdio_reader_free(gp_stdio_reader *reader)
{
    if (reader != NULL && !gp_runtime_forked()) {
        gp_stdio_reader_close(reader);
        gp__stdio_consumer_unref(&reader->consumer);
    }
}
