/*
 * The floor to measure against: an echo client and server on gRPC's C core and nothing else.
 *
 *   pair plugin            serve probe.Probe/Echo as a plugin: handshake line on stdout, ended by
 *                          the controller's Shutdown
 *   pair client TARGET METHOD SIZE CALLS THREADS
 *                          measure unary calls, print what the Go host's bench prints, as JSON
 *   pair shutdown TARGET   end the plugin that listens there
 *
 * The client sends SIZE arbitrary bytes as a protobuf message with one bytes field (number 1), and
 * the server sends back the bytes that it got.
 */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#ifdef __has_include
#if __has_include(<grpc/credentials.h>) /* newer versions */
#include <grpc/credentials.h>
#endif
#endif
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ECHO "/probe.Probe/Echo"
#define SHUTDOWN "/plugin.GRPCController/Shutdown"

enum { WARM_UP = 200, MAX_THREADS = 64, LIFETIME_SECONDS = 600 };

typedef struct job {
    grpc_channel *channel;
    const char *method;
    size_t size;
    int calls;
    double *us; /* owned by main: one place for each call */
} job;

static double
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double
cpu_us(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* ---- The client: each thread makes its calls one after another. ---- */

/* field 1, length-delimited */
static size_t
encode(unsigned char *out, size_t size)
{
    unsigned char *at = out;
    size_t left = size;

    *at++ = 0x0a;
    do {
        *at++ = (unsigned char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
        left >>= 7;
    } while (left > 0);
    memset(at, 'x', size);
    return (size_t)(at - out) + size;
}

static grpc_status_code
call_once(grpc_channel *channel, const char *method, grpc_completion_queue *queue,
          const unsigned char *bytes, size_t len)
{
    grpc_call *call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                               grpc_slice_from_static_string(method), NULL,
                                               gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, len);
    grpc_byte_buffer *request = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_byte_buffer *reply = NULL;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_status_code status;
    grpc_slice details;
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &reply},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {&trailing, &status, &details, NULL}},
    };

    grpc_metadata_array_init(&initial);
    grpc_metadata_array_init(&trailing);
    grpc_call_start_batch(call, ops, 6, call, NULL);
    grpc_completion_queue_pluck(queue, call, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (status != GRPC_STATUS_OK) {
        fprintf(stderr, "pair: status %d: %.*s\n", (int)status, (int)GRPC_SLICE_LENGTH(details),
                (const char *)GRPC_SLICE_START_PTR(details));
    }
    grpc_slice_unref(slice);
    grpc_slice_unref(details);
    grpc_byte_buffer_destroy(request);
    grpc_byte_buffer_destroy(reply);
    grpc_metadata_array_destroy(&initial);
    grpc_metadata_array_destroy(&trailing);
    grpc_call_unref(call);
    return status;
}

static void *
run_client(void *arg)
{
    job *work = arg;
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    unsigned char *bytes = malloc(work->size + 16);
    size_t len = encode(bytes, work->size);

    for (int i = 0; i < work->calls; i++) {
        double start = now_us();

        if (call_once(work->channel, work->method, queue, bytes, len) != GRPC_STATUS_OK) {
            exit(1);
        }
        work->us[i] = now_us() - start;
    }
    free(bytes);
    return NULL;
}

static grpc_channel *
connect_to(const char *target)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = "grpc.enable_retries"};
    grpc_channel_args args = {1, &arg};

    return grpc_channel_create(target, grpc_insecure_credentials_create(), &args);
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static int
client(const char *target, const char *method, size_t size, int calls, int threads)
{
    grpc_channel *channel = connect_to(target);
    int each = calls / threads;
    double *us = malloc(sizeof(*us) * (size_t)(each * threads + WARM_UP));
    job warm = {channel, method, size, WARM_UP, us};
    pthread_t ids[MAX_THREADS];
    job jobs[MAX_THREADS];
    double start;
    double wall;
    double cpu;

    run_client(&warm);
    cpu = cpu_us();
    start = now_us();
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){channel, method, size, each, us + i * each};
        pthread_create(&ids[i], NULL, run_client, &jobs[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
    }
    wall = now_us() - start;
    cpu = cpu_us() - cpu;
    calls = each * threads;
    qsort(us, (size_t)calls, sizeof(*us), ascending);
    printf("{\"calls\": {\"calls\": %d, \"size\": %zu, \"threads\": %d, \"latency_us\": "
           "{\"median\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"min\": %.2f, \"max\": %.2f}, "
           "\"per_second\": %.1f, \"host_cpu_us_per_call\": %.2f}}\n",
           calls, size, threads, us[(calls - 1) / 2], us[(calls - 1) * 9 / 10],
           us[(calls - 1) * 99 / 100], us[0], us[calls - 1], calls / wall * 1e6, cpu / calls);
    return 0;
}

/* A plugin may drop the connection while it answers: any status will do. */
static int
end_plugin(const char *target)
{
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);

    call_once(connect_to(target), SHUTDOWN, queue, NULL, 0);
    return 0;
}

/* ---- The plugin: one thread, one call after another. ---- */

typedef struct served {
    enum { NEW, READ, DONE } phase;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message;
    int cancelled;
} served;

static char directory[200];
static char path[220];

static void
leave(int status)
{
    unlink(path);
    rmdir(directory);
    _exit(status);
}

static void *
end_in_time(void *arg)
{
    (void)arg;
    sleep(LIFETIME_SECONDS);
    leave(3);
    return NULL;
}

static void
request_next(grpc_server *server, grpc_completion_queue *queue)
{
    served *next = calloc(1, sizeof(*next));

    grpc_call_details_init(&next->details);
    grpc_metadata_array_init(&next->metadata);
    grpc_server_request_call(server, &next->call, &next->details, &next->metadata, queue, queue,
                             next);
}

static int
is_method(const served *one, const char *name)
{
    return grpc_slice_str_cmp(one->details.method, name) == 0;
}

static void
read_message(served *one)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &one->message};

    one->phase = READ;
    grpc_call_start_batch(one->call, &op, 1, one, NULL);
}

static void
answer(served *one, grpc_status_code status)
{
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t count = 1;

    if (status == GRPC_STATUS_OK) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = one->message;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count++].data.send_status_from_server.status = status;
    ops[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    ops[count++].data.recv_close_on_server.cancelled = &one->cancelled;
    one->phase = DONE;
    grpc_call_start_batch(one->call, ops, count, one, NULL);
}

static void
advance(served *one, grpc_server *server, grpc_completion_queue *queue)
{
    switch (one->phase) {
    case NEW:
        request_next(server, queue);
        if (is_method(one, ECHO) || is_method(one, SHUTDOWN)) {
            read_message(one);
        } else { /* stdio and broker: hosts take this for an answer */
            answer(one, GRPC_STATUS_UNIMPLEMENTED);
        }
        break;
    case READ:
        answer(one, one->message != NULL ? GRPC_STATUS_OK : GRPC_STATUS_CANCELLED);
        break;
    case DONE:
        if (is_method(one, SHUTDOWN)) {
            leave(0);
        }
        grpc_byte_buffer_destroy(one->message);
        grpc_call_details_destroy(&one->details);
        grpc_metadata_array_destroy(&one->metadata);
        grpc_call_unref(one->call);
        free(one);
        break;
    }
}

static int
serve(void)
{
    const char *parent = getenv("TMPDIR");
    grpc_server *server = grpc_server_create(NULL, NULL);
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    char target[240];
    pthread_t watcher;

    snprintf(directory, sizeof(directory), "%s/pluginXXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/socket", directory);
    snprintf(target, sizeof(target), "unix:%s", path);
    grpc_server_register_completion_queue(server, queue, NULL);
    if (grpc_server_add_http2_port(server, target, grpc_insecure_server_credentials_create()) ==
        0) {
        leave(1);
    }
    grpc_server_start(server);
    request_next(server, queue);
    pthread_create(&watcher, NULL, end_in_time, NULL);
    printf("1|1|unix|%s|grpc\n", path);
    fflush(stdout);
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

        if (event.type == GRPC_OP_COMPLETE && (event.success || event.tag != NULL)) {
            advance(event.tag, server, queue);
        }
    }
}

int
main(int argc, char **argv)
{
    grpc_init();
    if (argc == 2 && strcmp(argv[1], "plugin") == 0) {
        return serve();
    }
    if (argc == 7 && strcmp(argv[1], "client") == 0) {
        int calls = atoi(argv[5]);
        int threads = atoi(argv[6]);

        if (threads >= 1 && threads <= MAX_THREADS && calls >= threads) {
            return client(argv[2], argv[3], strtoul(argv[4], NULL, 10), calls, threads);
        }
    }
    if (argc == 3 && strcmp(argv[1], "shutdown") == 0) {
        return end_plugin(argv[2]);
    }
    fputs("usage: pair plugin | pair client TARGET METHOD SIZE CALLS THREADS | "
          "pair shutdown TARGET\n",
          stderr);
    return 2;
}
