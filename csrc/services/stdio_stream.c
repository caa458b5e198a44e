#include "base/alloc.h"
#include "gp/container.h"
#include "gp/grpc_status.h"
#include "gp/services.h"
#include "os/stdio_state.h"
#include "rpc/method.h"
#include "services/stdio_message.h"

#define STREAM "/plugin.GRPCStdio/StreamStdio"

/* A call of StreamStdio. */
typedef struct stream {
    gp__stdio_consumer consumer;
    gp_server_call *call; /* shared: ref */
} stream;

static stream *
stream_of(gp__stdio_consumer *consumer)
{
    return gp_container_of(consumer, stream, consumer);
}

/* A gp_sent for messages and metadata: called on the polling thread. */
static void
on_sent(void *ctx, bool ok)
{
    gp__stdio_consumer *self = ctx;
    gp_stdio *stdio = self->stdio;

    gp_mutex_lock(&stdio->lock);
    self->busy = false;
    if (!ok) { /* the call is over, and cannot send more */
        gp__stdio_remove_locked(stdio, self);
    }
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    gp__stdio_consumer_unref(self);
}

static bool
give_to_stream(gp__stdio_consumer *self, const gp__stdio_chunk *chunk)
{
    gp_bytes message = gp__stdio_message(chunk);

    self->refs++; /* until it has been sent */
    if (gp_server_call_send_then(stream_of(self)->call, message, on_sent, self) < 0) {
        self->refs--;
        return false;
    }
    return true;
}

static void
end_stream(gp__stdio_consumer *self, bool busy)
{
    gp_server_call *call = stream_of(self)->call;

    if (busy) { /* a status would have to wait for a host that does not read */
        gp_server_call_cancel(call, GP_GRPC_UNAVAILABLE, "the output was not read in time");
    } else {
        gp_server_call_finish(call, GP_GRPC_OK, (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
    }
}

static void
free_stream(gp__stdio_consumer *self)
{
    gp_server_call_unref(stream_of(self)->call);
    gp__free(stream_of(self));
}

/* Called when the call is over, usually because its connection has ended. */
static void
on_call_over(void *ctx)
{
    gp__stdio_consumer *self = ctx;
    gp_stdio *stdio = self->stdio;

    gp_mutex_lock(&stdio->lock);
    gp__stdio_remove_locked(stdio, self);
    /* Only now is the last message certain to have been sent. */
    gp__stdio_count_sending_locked(stdio, -1);
    gp_mutex_unlock(&stdio->lock);
    gp__stdio_update(stdio);
    gp__stdio_consumer_unref(self);
}

static void
answer_stream_stdio(void *ctx, gp_server_call *call, const gp_message *request)
{
    gp_stdio *stdio = ctx;
    stream *self = gp__calloc(1, sizeof(*self));

    (void)request;
    if (self == NULL) {
        gp_server_call_cancel(call, GP_GRPC_UNAVAILABLE, "out of memory");
        return;
    }
    self->consumer = (gp__stdio_consumer){.stdio = gp_stdio_ref(stdio),
                                          .refs = 1, /* until the call is over */
                                          .give = give_to_stream,
                                          .end = end_stream,
                                          .free = free_stream};
    self->call = gp_server_call_ref(call);
    gp_mutex_lock(&stdio->lock);
    gp__stdio_append_locked(stdio, &self->consumer);
    gp__stdio_count_sending_locked(stdio, 1);
    /*
     * The initial metadata are sent by themselves: if they were sent with the first message, they
     * would wait for output that may never come.
     */
    self->consumer.busy = true;
    self->consumer.refs++;
    if (gp_server_call_send_initial_metadata_then(call, (gp_metadata){NULL, 0}, on_sent,
                                                  &self->consumer) < 0) {
        self->consumer.busy = false;
        self->consumer.refs--;
    }
    gp_mutex_unlock(&stdio->lock);
    if (gp_server_call_on_finished(call, on_call_over, &self->consumer) < 0) {
        on_call_over(&self->consumer);
    } else {
        gp__stdio_update(stdio);
    }
}

static void
finish_with_server(void *ctx)
{
    static const int64_t patience_ms = 1000;

    gp_stdio_finish(ctx, patience_ms);
}

static void
release_stdio(void *ctx)
{
    gp_stdio_unref(ctx);
}

int
gp_server_add_stdio(gp_server *server, gp_stdio *stdio, gp_error *err)
{
    gp__method *method = gp__calloc(1, sizeof(*method));
    int rc;

    if (method == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the stdio service");
    }
    *method = (gp__method){.path = STREAM,
                           .answer = answer_stream_stdio,
                           .ctx = stdio,
                           .on_idle = finish_with_server,
                           .release = release_stdio};
    rc = gp__server_add_methods(server, method, 1, method, err);
    if (rc == 0) {
        gp_stdio_ref(stdio);
    }
    return rc;
}
