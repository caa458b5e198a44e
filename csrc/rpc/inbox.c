#include "rpc/inbox.h"

#include "rpc/convert.h"
#include "rpc/trim.h"

void
gp__inbox_init(gp__inbox *inbox, void *call, gp__start_batch *start_batch, gp__poller *poller,
               gp_mutex *lock, void (*complete)(gp__event *event, bool ok))
{
    inbox->event.complete = complete;
    inbox->call = call;
    inbox->start_batch = start_batch;
    inbox->poller = poller;
    inbox->lock = lock;
}

void
gp__inbox_release(gp__inbox *inbox)
{
    if (inbox->incoming != NULL) {
        grpc_byte_buffer_destroy(inbox->incoming);
        inbox->incoming = NULL;
    }
}

grpc_op
gp__inbox_op(gp__inbox *inbox)
{
    return (grpc_op){.op = GRPC_OP_RECV_MESSAGE,
                     .data.recv_message.recv_message = &inbox->incoming};
}

void
gp__inbox_start(gp__inbox *inbox)
{
    grpc_op op = gp__inbox_op(inbox);

    gp__gate_close(&inbox->arrived);
    inbox->receiving = true;
    if (inbox->start_batch(inbox->call, &op, 1, &inbox->event) < 0) {
        gp__gate_open(inbox->poller, &inbox->arrived);
    }
}

/*
 * Start to receive on a thread that does not poll. A message that has come already arrives at once.
 */
static void
start_receive_here(gp__inbox *inbox)
{
    gp__poller_begin_here(inbox->poller);
    gp__inbox_start(inbox);
    gp__poller_end_here(inbox->poller);
}

gp_message *
gp__inbox_take(gp__inbox *inbox)
{
    gp_message *message = gp__message_from_buffer(inbox->incoming);

    inbox->receiving = false;
    inbox->incoming = NULL;
    return message;
}

bool
gp__inbox_take_arrived(gp__inbox *inbox, gp_message **out)
{
    bool arrived = inbox->receiving && gp__gate_is_open(&inbox->arrived);

    *out = arrived ? gp__inbox_take(inbox) : NULL;
    return arrived;
}

void
gp__inbox_put_back(gp__inbox *inbox, gp_message *message)
{
    inbox->incoming = gp__buffer_of_message(message);
    inbox->receiving = true;
    gp__gate_open(inbox->poller, &inbox->arrived);
}

bool
gp__inbox_complete(gp__inbox *inbox)
{
    gp_received *then;
    void *ctx;
    size_t len = inbox->incoming != NULL ? grpc_byte_buffer_length(inbox->incoming) : 0;

    if (len >= GP__TRIM_MESSAGE) {
        gp__trim_count(len);
    }
    /* gp__inbox_receive_then() reads the gate and sets |then| under the same lock. */
    gp_mutex_lock(inbox->lock);
    then = inbox->then;
    ctx = inbox->ctx;
    inbox->then = NULL;
    if (then == NULL) {
        gp__gate_open(inbox->poller, &inbox->arrived);
    }
    gp_mutex_unlock(inbox->lock);
    if (then != NULL) {
        then(ctx, gp__inbox_take(inbox));
    }
    return then != NULL;
}

int
gp__inbox_receive(gp__inbox *inbox, gp_message **out, const gp_interrupt *interrupt)
{
    int rc;

    *out = NULL;
    if (!inbox->receiving) {
        start_receive_here(inbox);
    }
    rc = gp__poller_wait(inbox->poller, &inbox->arrived, GP__FOREVER, interrupt);
    if (rc < 0) {
        return rc; /* the receive goes on; the next call takes its result */
    }
    *out = gp__inbox_take(inbox);
    return *out != NULL;
}

int
gp__inbox_receive_then(gp__inbox *inbox, gp_message **out, gp_received *then, void *ctx)
{
    bool arrived;

    *out = NULL;
    /* A receive may be under way already: an interrupted one, or the first of a server's call. */
    if (!inbox->receiving) {
        start_receive_here(inbox);
    }
    gp_mutex_lock(inbox->lock);
    arrived = gp__gate_is_open(&inbox->arrived);
    if (!arrived) {
        inbox->then = then;
        inbox->ctx = ctx;
    }
    gp_mutex_unlock(inbox->lock);
    if (arrived) {
        *out = gp__inbox_take(inbox);
    }
    return arrived;
}
