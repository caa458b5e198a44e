#include "rpc/connection.h"

#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fork.h"
#include "gp/lock.h"
#include "os/fd.h"
#include "rpc/args.h"
#include "rpc/credentials.h"
#include "rpc/engine.h"
#include "rpc/grpc_library.h"
#include "rpc/metadata_size.h"
#include "rpc/unpack.h"
#include "rpc/worker_pool.h"

static void reset_after_fork(void);

static gp__ref_list all = GP__REF_LIST_INIT(all);
static gp_fork_part part = {.reset = reset_after_fork};

enum { MOST_OWN_ARGS = 16 };

/* The library's own arguments of a channel. The user's arguments override them. */
typedef struct own_args {
    gp_channel_arg items[MOST_OWN_ARGS];
    size_t count;
    char *agent; /* owned */
} own_args;

static void
add_integer(own_args *own, const char *key, int value)
{
    own->items[own->count++] = (gp_channel_arg){.key = key, .integer = value};
}

static void
add_string(own_args *own, const char *key, const char *value)
{
    own->items[own->count++] = (gp_channel_arg){.key = key, .string = value};
}

/*
 * Whether |options| ask for something that is done by filters which a minimal stack lacks: limits
 * on messages, limits by method, or the end of idle connections.
 */
static bool
needs_all_filters(const gp_channel_options *options)
{
    static const char *const keys[] = {
        "grpc.max_receive_message_length",
        "grpc.max_send_message_length",
        "grpc.service_config",
        "grpc.client_idle_timeout_ms",
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (gp__arg_is_given(options->args, options->args_count, keys[i])) {
            return true;
        }
    }
    return false;
}

/*
 * Between a host and its plugin there is no proxy, no load balancer and no second backend. So there
 * are no retries (which take 5 to 8 us a call), no proxy from the environment, no connection that
 * gRPC shares with other channels, and no statistics for channelz, which nothing in this library
 * shows. Messages may be as large as gRPC can carry, as with go-plugin.
 *
 * What is not needed has no filter either. Filters take a sixth of the host's time for each message
 * of a stream.
 */
static void
add_plugin_args(own_args *own, const gp_channel_options *options)
{
    enum { UNLIMITED = -1 };

    add_integer(own, "grpc.enable_retries", 0);
    add_integer(own, "grpc.enable_http_proxy", 0);
    add_integer(own, "grpc.use_local_subchannel_pool", 1);
    add_integer(own, "grpc.enable_channelz", 0);
    add_integer(own, "grpc.max_receive_message_length", UNLIMITED);
    add_integer(own, "grpc.max_send_message_length", UNLIMITED);
    if (!needs_all_filters(options)) {
        add_integer(own, "grpc.minimal_stack", 1);
        add_integer(own, "grpc.enable_deadline_checking", 1);
        add_integer(own, "grpc.per_message_compression", 1);
    }
}

/*
 * Complete |own| with the arguments of every channel, and merge it with the user's. Every channel
 * accepts as much metadata as error details need, and says how much in its user agent. |authority|
 * may be NULL. Returns: 0 or GP_ENOMEM.
 */
static int
merge_args(grpc_channel_args *out, own_args *own, const gp_channel_options *options,
           const char *authority)
{
    static const char agent_key[] = "grpc.primary_user_agent";
    const gp_channel_arg *more = options->args;
    size_t count = options->args_count;
    int size = gp__arg_integer(more, count, "grpc.max_metadata_size", GP__METADATA_SIZE);
    gp_arg_object *quota = gp__process_quota();
    gp_channel_arg *items;
    int rc;

    /* Newer versions of gRPC refuse at random metadata whose size is between the two limits. */
    add_integer(own, "grpc.max_metadata_size", size);
    add_integer(own, "grpc.absolute_max_metadata_size", size);
    add_integer(own, "grpc.per_message_decompression", 0); /* gp__unpack() decompresses */
    if (quota != NULL) {
        own->items[own->count++] = (gp_channel_arg){.key = "grpc.resource_quota", .object = quota};
    }
    if (authority != NULL) {
        add_string(own, "grpc.default_authority", authority);
    }
    own->agent = gp__user_agent(gp__arg_string(more, count, agent_key),
                                options->agent != NULL ? options->agent : "grpc-python", size);
    /* The full user agent, which begins with the user's, replaces the user's. */
    items = gp__malloc((count + 1) * sizeof(*items));
    if (own->agent == NULL || items == NULL) {
        gp__free(items);
        return GP_ENOMEM;
    }
    if (count > 0) {
        memcpy(items, more, count * sizeof(*items));
    }
    items[count] = (gp_channel_arg){.key = agent_key, .string = own->agent};
    rc = gp__args_merge(out, own->items, own->count, items, count + 1);
    gp__free(items);
    return rc;
}

static grpc_channel *
make_grpc_channel(const char *target, const gp_channel_credentials *given,
                  const grpc_channel_args *args)
{
    grpc_channel_credentials *insecure;
    grpc_channel *channel;

    if (given != NULL) {
        return grpc_channel_create(target, gp__channel_credentials(given), args);
    }
    insecure = grpc_insecure_credentials_create();
    channel = grpc_channel_create(target, insecure, args);
    grpc_channel_credentials_release(insecure);
    return channel;
}

static int
make_connection(gp__connection **out, gp_error *err)
{
    gp__connection *made = gp__calloc(1, sizeof(*made));
    int rc;

    if (made == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a channel");
    }
    gp_mutex_init(&made->lock);
    gp_list_init(&made->views);
    gp_list_init(&made->reason_waiters);
    atomic_init(&made->refs, 1);
    made->kept = -1;
    if ((rc = gp__grpc_use(GP__FORK_CONNECTION, err)) < 0) {
        goto fail;
    }
    /*
     * Even while no call is made, a thread must handle what arrives, such as a GOAWAY or the end of
     * the connection.
     */
    if ((rc = gp__engine_start(&made->poller, err)) < 0 || (rc = gp__pool_start(false, err)) < 0) {
        gp__grpc_drop(GP__FORK_CONNECTION);
        goto fail;
    }
    gp_runtime_on_fork(&part);
    gp__ref_list_add(&all, &made->link, &made->refs);
    *out = made;
    return 0;

fail:
    gp_mutex_release(&made->lock);
    gp__free(made);
    return rc;
}

/* The last reference is gone: no other thread uses the connection, and its lock is not needed. */
static void free_connection(gp__task *task) GP_NO_THREAD_SAFETY_ANALYSIS;

static void
free_connection(gp__task *task)
{
    gp__connection *connection = gp_container_of(task, gp__connection, deferred_free);
    grpc_channel *channel = atomic_load(&connection->channel);

    gp__ref_list_remove(&all, &connection->link);
    if (channel != NULL) {
        grpc_channel_destroy(channel);
    }
    if (!connection->retired) {
        gp__grpc_drop(GP__FORK_CONNECTION);
        gp__fork_drop(GP__FORK_ENDING);
    }
    if (connection->carrier.ctx != NULL) {
        connection->carrier.unref(connection->carrier.ctx);
    }
    gp__process_unref(connection->process);
    gp__reactor_remove(connection->timer);
    gp__fd_close(&connection->kept);
    gp_mutex_release(&connection->lock);
    gp__free(connection);
}

/*
 * A worker closes the connection, since that takes as long as a call: a handler that has called its
 * caller back need not wait for it.
 */
void
gp__connection_unref(gp__connection *connection)
{
    if (atomic_fetch_sub(&connection->refs, 1) == 1) {
        if (connection->retired) { /* gRPC and the workers may be gone */
            free_connection(&connection->deferred_free);
            return;
        }
        gp__fork_add(GP__FORK_ENDING);
        gp__direct_free(connection->direct);
        connection->deferred_free.run = free_connection;
        gp__pool_defer(&connection->deferred_free);
    }
}

int
gp__connection_open(gp__connection **out, const char *target, const gp_channel_options *options,
                    gp_error *err)
{
    own_args own = {.count = 0};
    grpc_channel_args args = {0, NULL};
    gp__connection *made;
    int rc = make_connection(&made, err);

    if (rc < 0) {
        return rc;
    }
    if (!options->general) {
        add_plugin_args(&own, options);
    }
    rc = merge_args(&args, &own, options, NULL);
    if (rc == 0) {
        atomic_store(&made->channel, make_grpc_channel(target, options->credentials, &args));
        made->secure = options->credentials != NULL;
        made->unpack_limit = gp__unpack_limit(options->args, options->args_count,
                                              options->general ? GP__MESSAGE_LENGTH : INT_MAX);
    }
    gp__free(args.args);
    gp__free(own.agent);
    if (rc < 0) {
        gp__connection_unref(made);
        return gp_error_set(err, rc, "out of memory for channel arguments");
    }
    *out = made;
    return 0;
}

int
gp__connection_open_over(gp__connection **out, int fd, const char *name, const char *authority,
                         const gp_channel_options *options, gp_error *err)
{
    own_args own = {.count = 0};
    grpc_channel_args args = {0, NULL};
    grpc_channel *channel = NULL;
    gp__connection *made = NULL;
    int rc = make_connection(&made, err);

    if (rc < 0) {
        gp__fd_close(&fd);
        return rc;
    }
    add_plugin_args(&own, options);
    if (merge_args(&args, &own, options, authority) < 0) {
        gp__fd_close(&fd);
        rc = gp_error_set(err, GP_ENOMEM, "out of memory for channel arguments");
    } else {
        rc = gp__direct_open(&made->direct, &channel, fd, name, &args, err);
        atomic_store(&made->channel, channel);
        made->unpack_limit = gp__unpack_limit(options->args, options->args_count, INT_MAX);
    }
    gp__free(args.args);
    gp__free(own.agent);
    if (rc < 0) {
        gp__connection_unref(made);
        return rc;
    }
    *out = made;
    return 0;
}

gp__connection *
gp__connection_next(gp__connection *last)
{
    gp__ref_link *next = gp__ref_list_next(&all, last != NULL ? &last->link : NULL);

    return next != NULL ? gp_container_of(next, gp__connection, link) : NULL;
}

/* In a forked child: its connections have all been retired, or cannot be used. */
static void
reset_after_fork(void)
{
    gp__ref_list_reset(&all);
}
