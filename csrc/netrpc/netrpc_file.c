#include "netrpc/netrpc_file.h"

#include "base/alloc.h"
#include "gp/container.h"
#include "netrpc/transport_state.h"

/* An event loop that waits until the file is ready. */
typedef struct file_wait {
    gp__task task;
    gp_link link;    /* in the file's list */
    unsigned events; /* GP__STREAM_READ or GP__STREAM_WRITE */
    gp_then *then;
    void *ctx; /* borrowed: until |then| has been called */
} file_wait;

/*
 * Guarded by the transport's lock. What has come and is not read is the stream's unused data.
 */
struct gp_netrpc_file {
    gp__transport *transport;     /* shared: ref */
    gp__transport_stream *stream; /* owned; NULL: closed */
    gp__transport_gate readable;  /* opened when threads that read are to look again */
    gp__transport_gate writable;  /* the same for threads that write */
    gp_list waits;                /* of event loops */
    gp_error why;                 /* how the other side's direction has ended, if |ended| */
    bool ended;
    bool blocked; /* what was written last was not taken whole; |writable| will be opened */
};

/* ---- The stream's callbacks ------------------------------------------------------------------ */

/* The file is ready for |events|: wake those who wait for that. */
static void
report_ready_locked(gp_netrpc_file *file, unsigned events) GP_REQUIRES(&file->transport->lock)
{
    file_wait *next;

    if ((events & GP__STREAM_READ) != 0) {
        gp__transport_gate_open_locked(file->transport, &file->readable);
    }
    if ((events & GP__STREAM_WRITE) != 0) {
        file->blocked = false;
        gp__transport_gate_open_locked(file->transport, &file->writable);
    }
    for (file_wait *it = gp_list_first_entry(&file->waits, file_wait, link); it != NULL;
         it = next) {
        next = gp_list_next_entry(&file->waits, it, file_wait, link);
        if ((it->events & events) != 0) {
            gp_link_remove(&it->link);
            gp__transport_urgent_locked(file->transport, -1);
            gp__transport_defer_locked(file->transport, &it->task);
        }
    }
}

static size_t
data_has_come(void *ctx, const unsigned char *bytes, size_t len)
{
    gp_netrpc_file *file = ctx;

    (void)bytes;
    (void)len;
    gp_mutex_assert_held(&file->transport->lock);
    report_ready_locked(file, GP__STREAM_READ);
    return 0; /* it is stored until it is read */
}

static void
input_has_ended(void *ctx, const gp_error *why)
{
    gp_netrpc_file *file = ctx;

    gp_mutex_assert_held(&file->transport->lock);
    file->ended = true;
    gp__transport_copy_error(&file->why, why);
    report_ready_locked(file, GP__STREAM_READ | (why->code != 0 ? GP__STREAM_WRITE : 0));
}

static void
there_is_room(void *ctx)
{
    gp_netrpc_file *file = ctx;

    gp_mutex_assert_held(&file->transport->lock);
    report_ready_locked(file, GP__STREAM_WRITE);
}

static const gp__transport_stream_ops stream_ops = {data_has_come, input_has_ended, there_is_room};

/* ---- Opening, closing ------------------------------------------------------------------------ */

int
gp__netrpc_file_new_locked(gp_netrpc_file **out, gp__transport_stream *stream, gp_error *err)
{
    gp_netrpc_file *file = gp__calloc(1, sizeof(*file));

    if (file == NULL) {
        gp__transport_stream_release_locked(stream);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a stream");
    }
    file->transport = gp__transport_ref(stream->transport);
    file->stream = stream;
    gp_list_init(&file->waits);
    *out = file;
    gp__transport_stream_use_locked(stream, &stream_ops, file);
    return 0;
}

void
gp_netrpc_file_close(gp_netrpc_file *file)
{

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&file->transport->lock);
    if (file->stream != NULL) {
        gp__transport_stream_shutdown_locked(file->stream);
        gp__transport_stream_release_locked(file->stream);
        file->stream = NULL;
        report_ready_locked(file, GP__STREAM_READ | GP__STREAM_WRITE);
        gp__transport_flush_locked(file->transport);
    }
    gp_mutex_unlock(&file->transport->lock);
    gp__transport_run_deferred(file->transport);
}

void
gp_netrpc_file_free(gp_netrpc_file *file)
{
    if (file != NULL) {
        gp_netrpc_file_close(file);
        gp__transport_unref(file->transport);
        gp_error_release(&file->why);
        gp__free(file);
    }
}

/* ---- Reading and writing --------------------------------------------------------------------- */

/* Wait for |gate|. Returns 0, or GP_ETIMEOUT or GP_EUSER with |err|. */
static int
wait_locked(gp_netrpc_file *file, gp__transport_gate *gate, int64_t deadline,
            const gp_interrupt *interrupt, gp_error *err) GP_REQUIRES(&file->transport->lock)
{
    int rc = GP_ETIMEOUT;

    if (deadline != 0) {
        gate->open = false;
        rc = gp__transport_wait_locked(file->transport, gate, deadline, interrupt);
    }
    return rc < 0 ? gp_error_set(err, rc, "%s", gp_strerror(rc)) : 0;
}

static int
refuse_closed(gp_error *err)
{
    return gp_error_set(err, GP_ECLOSED, "this side has closed the stream");
}

/* Returns what gp_netrpc_file_read() does, or GP__WOULD_BLOCK. */
static ptrdiff_t
try_to_read_locked(gp_netrpc_file *file, void *bytes, size_t size, gp_error *err)
    GP_REQUIRES(&file->transport->lock)
{
    size_t got;

    if (file->stream == NULL) {
        return refuse_closed(err);
    }
    got = gp__transport_stream_read_locked(file->stream, bytes, size);
    if (got > 0) {
        gp__transport_flush_locked(file->transport); /* the other side may send more */
        return (ptrdiff_t)got;
    }
    if (!file->ended) {
        return GP__WOULD_BLOCK;
    }
    return file->why.code == 0 ? 0
                               : gp_error_set(err, GP_ECLOSED, "%s", gp_error_message(&file->why));
}

ptrdiff_t
gp_netrpc_file_read(gp_netrpc_file *file, void *bytes, size_t size, int64_t deadline,
                    const gp_interrupt *interrupt, gp_error *err)
{
    ptrdiff_t got;
    int rc = 0;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&file->transport->lock);
    while ((got = try_to_read_locked(file, bytes, size, err)) == GP__WOULD_BLOCK &&
           (rc = wait_locked(file, &file->readable, deadline, interrupt, err)) == 0) {
    }
    gp_mutex_unlock(&file->transport->lock);
    return rc < 0 ? rc : got;
}

int
gp_netrpc_file_write(gp_netrpc_file *file, const void *bytes, size_t len, size_t *written,
                     int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    int rc = 0;

    *written = 0;
    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    gp_mutex_lock(&file->transport->lock);
    while (rc == 0 && *written < len) {
        ptrdiff_t put;

        if (file->stream == NULL) {
            rc = refuse_closed(err);
            break;
        }
        put = gp__transport_stream_write_locked(
            file->stream, (const unsigned char *)bytes + *written, len - *written, err);
        if (put < 0) {
            rc = (int)put;
            break;
        }
        *written += (size_t)put;
        file->blocked = *written < len;
        gp__transport_flush_locked(file->transport);
        if (file->blocked) {
            rc = wait_locked(file, &file->writable, deadline, interrupt, err);
        }
    }
    gp_mutex_unlock(&file->transport->lock);
    return rc;
}

void
gp_netrpc_file_shutdown(gp_netrpc_file *file)
{

    if (gp_runtime_forked()) {
        return;
    }
    gp_mutex_lock(&file->transport->lock);
    if (file->stream != NULL) {
        gp__transport_stream_shutdown_locked(file->stream);
        report_ready_locked(file, GP__STREAM_WRITE); /* threads that write find out */
        gp__transport_flush_locked(file->transport);
    }
    gp_mutex_unlock(&file->transport->lock);
    gp__transport_run_deferred(file->transport);
}

/* ---- Event loops ----------------------------------------------------------------------------- */

static unsigned
ready_events_locked(const gp_netrpc_file *file) GP_REQUIRES(&file->transport->lock)
{
    bool readable =
        file->stream == NULL || file->ended || gp__transport_stream_unused_locked(file->stream) > 0;

    return (readable ? GP__STREAM_READ : 0u) | (file->blocked ? 0u : GP__STREAM_WRITE);
}

/* A deferred task. */
static void
call_then(gp__task *task)
{
    file_wait wait = *gp_container_of(task, file_wait, task);

    gp__free(gp_container_of(task, file_wait, task));
    wait.then(wait.ctx);
}

int
gp_netrpc_file_when_ready(gp_netrpc_file *file, bool writing, gp_then *then, void *ctx)
{
    file_wait *wait = gp__calloc(1, sizeof(*wait));
    bool added = false;

    if (wait == NULL) {
        return GP_ENOMEM;
    }
    wait->task.run = call_then;
    wait->events = writing ? GP__STREAM_WRITE : GP__STREAM_READ;
    wait->then = then;
    wait->ctx = ctx;
    if (!gp_runtime_forked()) {
        gp_mutex_lock(&file->transport->lock);
        if ((ready_events_locked(file) & wait->events) == 0) {
            gp_list_append(&file->waits, &wait->link);
            gp__transport_urgent_locked(file->transport, 1);
            added = true;
        }
        gp_mutex_unlock(&file->transport->lock);
    }
    if (!added) {
        gp__free(wait);
    }
    return added ? 1 : 0;
}
