#include "rpc/call.h"

#include "base/thread.h"
#include "rpc/convert.h"
#include "rpc/credentials.h"
#include "rpc/grpc_library.h"
#include "rpc/grpc_symbols.h"

static uint32_t
initial_flags(unsigned flags)
{
    if (flags & GP_CALL_WAIT_FOR_READY) {
        return GRPC_INITIAL_METADATA_WAIT_FOR_READY |
               GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    }
    return flags & GP_CALL_NO_WAIT_FOR_READY ? GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET
                                             : 0;
}

/* Make a call without batches, and add it to its channel's calls. */
static int
make_call(gp_call **out, gp_channel *channel, const gp_call_options *options, gp_error *err)
{
    grpc_slice method;
    gp_call *call;
    int rc;

    if (gp_runtime_forked()) {
        return gp_runtime_refuse_fork(err);
    }
    if ((rc = gp__call_new(&call, channel)) < 0) {
        return gp_error_set(err, rc, "out of memory for a call");
    }
    if (call->grpc_channel == NULL) {
        gp__call_unref(call);
        return gp_error_set(err, GP_ECLOSED, "the channel is closed");
    }
    call->deadline = gp__deadline_in_ns(options->timeout_ns);
    method = gp__slice_from_bytes(options->method);
    call->call = grpc_channel_create_call(call->grpc_channel, NULL, GRPC_PROPAGATE_DEFAULTS,
                                          call->poller->queue, method, NULL,
                                          gp__timespec_from_deadline(call->deadline), NULL);
    grpc_slice_unref(method);
    if (options->credentials != NULL) {
        grpc_call_set_credentials(call->call, gp__call_credentials(options->credentials));
    }
    if ((rc = gp__channel_add_call(channel, &call->link, err)) < 0) {
        gp__call_unref(call);
        return rc;
    }
    *out = call;
    return 0;
}

/*
 * Convert the initial metadata of |options|, and how messages are compressed, for gRPC. Returns: 0
 * or GP_ENOMEM.
 */
static int
make_metadata(grpc_metadata **out, size_t *count, const gp_call_options *options)
{
    size_t extra = options->compression != GP_COMPRESS_DEFAULT;
    int rc = gp__metadata_to_grpc(out, options->metadata, extra);

    *count = options->metadata.count + extra;
    if (rc == 0 && extra) {
        (*out)[*count - 1] = gp__compression_metadata(options->compression);
    }
    return rc;
}

static grpc_op
send_metadata_op(const gp_call_options *options, grpc_metadata *metadata, size_t count)
{
    return (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
                     .flags = initial_flags(options->flags),
                     .data.send_initial_metadata = {.count = count, .metadata = metadata}};
}

static grpc_op
status_op(gp_call *call)
{
    return (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                     .data.recv_status_on_client = {&call->trailing_metadata, &call->code,
                                                    &call->details, &call->debug}};
}

static grpc_op
initial_metadata_op(gp_call *call)
{
    return (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA,
                     .data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata};
}

/* Free a call whose first batch could not be started. Returns |code|. */
static int
abandon_call(gp_call *call, int code, gp_error *err)
{
    gp__channel_remove_call(call->channel, &call->link);
    grpc_call_cancel(call->call, NULL);
    gp__call_unref(call);
    return gp_error_set(err, code, "%s",
                        code == GP_ENOMEM ? "out of memory for a call's metadata"
                                          : "gRPC refused the call: is the metadata legal?");
}

/*
 * Send the initial metadata, and |request| if it is not NULL. gRPC usually writes them at once:
 * then this thread completes the batch, and the polling thread is not woken for it.
 */
static int
send_request(gp_call *call, const gp_call_options *options, const gp_bytes *request)
{
    grpc_metadata *metadata;
    size_t metadata_count;
    grpc_op ops[3];
    size_t count = 0;
    int rc = make_metadata(&metadata, &metadata_count, options);

    if (rc < 0) {
        return rc;
    }
    ops[count++] = send_metadata_op(options, metadata, metadata_count);
    if (request != NULL) {
        ops[count++] = gp__outbox_op(&call->outbox, *request, 0);
        ops[count++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    }
    gp__poller_begin_here(call->poller);
    rc = gp__call_start_batch(call, ops, count, &call->request);
    gp__poller_end_here(call->poller);
    gp__metadata_free(metadata, metadata_count);
    return rc;
}

/* Start the batches that receive the answer. gRPC cannot refuse them. */
static void
start_answer_batches(gp_call *call, bool one_reply, bool early)
{
    grpc_op ops[3];
    size_t count = 0;

    ops[count++] = status_op(call);
    call->one_reply = one_reply;
    if (one_reply) {
        ops[count++] = gp__inbox_op(&call->inbox);
    }
    if (!early) {
        ops[count++] = initial_metadata_op(call);
    }
    gp__call_start_batch(call, ops, count, &call->status);
    if (early) {
        grpc_op op = initial_metadata_op(call);

        gp__call_start_batch(call, &op, 1, &call->initial);
    }
}

static int
start_call(gp_call **out, gp_channel *channel, const gp_call_options *options,
           const gp_bytes *request, bool one_reply, bool early, gp_error *err)
{
    gp_call *call = NULL;
    int rc = make_call(&call, channel, options, err);

    if (rc < 0) {
        return rc;
    }
    call->early = early;
    rc = send_request(call, options, request);
    if (rc < 0) {
        return abandon_call(call, rc, err);
    }
    start_answer_batches(call, one_reply, early);
    *out = call;
    return 0;
}

int
gp_call_start_unary(gp_call **out, gp_channel *channel, const gp_call_options *options,
                    gp_bytes request, gp_error *err)
{
    return start_call(out, channel, options, &request, true,
                      (options->flags & GP_CALL_EARLY_METADATA) != 0, err);
}

int
gp_call_start_stream(gp_call **out, gp_channel *channel, const gp_call_options *options,
                     const gp_bytes *request, gp_error *err)
{
    return start_call(out, channel, options, request, (options->flags & GP_CALL_ONE_REPLY) != 0,
                      true, err);
}
