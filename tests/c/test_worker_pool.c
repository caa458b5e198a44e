#include "gp/lock.h"
#include "rpc_fixture.h"

#include <dirent.h>

#include "gp/grpc.h"
#include "rpc/engine.h"
#include "rpc/worker_pool.h"

static atomic_int ended_workers;

static void
count_ended_worker(void)
{
    atomic_fetch_add(&ended_workers, 1);
}

/* How many of the process's threads run handlers or poll. */
static int
count_workers(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    int found = 0;

    assert_non_null(tasks);
    while ((entry = readdir(tasks)) != NULL) {
        char path[300];
        char name[32] = "";
        FILE *comm;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        comm = fopen(path, "r");
        if (comm != NULL) { /* otherwise the thread has just ended */
            found += fgets(name, sizeof(name), comm) != NULL && strcmp(name, "gp-worker\n") == 0;
            fclose(comm);
        }
    }
    closedir(tasks);
    return found;
}

static void
echo(fixture *self)
{
    gp_call *call = start_call(self, "/t/Echo", "x");

    finish_call(call, 0);
}

static void
servers_share_their_threads(void **state)
{
    enum { SERVERS = 20 };
    static fixture all[SERVERS];

    (void)state;
    for (int i = 0; i < SERVERS; i++) {
        fixture_start(&all[i], 4, 0);
        echo(&all[i]);
    }
    for (int i = 0; i < SERVERS; i++) {
        echo(&all[i]);
    }
    /* One handler runs at a time. Others poll, or are the backup poller, or run what came up. */
    assert_in_range(count_workers(), 1, SERVERS / 2);
    for (int i = 0; i < SERVERS; i++) {
        fixture_stop(&all[i]);
    }
}

static void
a_busy_server_does_not_hold_up_others(void **state)
{
    gp_call *blocked[3];
    gp_call *queued;
    fixture busy;
    fixture other;

    (void)state;
    fixture_start(&busy, 3, 0);
    fixture_start(&other, 1, 0);
    for (int i = 0; i < 3; i++) {
        blocked[i] = start_call(&busy, "/t/Block", "long");
    }
    wait_inside(&busy, 3);
    queued = start_call(&busy, "/t/Echo", "");
    for (int i = 0; i < 20; i++) {
        echo(&other);
    }
    assert_int_equal(gp_call_wait(queued, 20 * GP__MS, NULL), GP_ETIMEOUT);
    open_gate(&busy);
    for (int i = 0; i < 3; i++) {
        finish_call(blocked[i], 0);
    }
    finish_call(queued, 0);
    fixture_stop(&other);
    fixture_stop(&busy);
}

/* A server that answers with what the next one in a row answers. */
typedef struct relay {
    gp_server *server;
    gp_channel *channel; /* to |server| */
    struct relay *next;  /* NULL: the last one answers by itself */
    gp_mutex lock;
    gp_cond changed;
    bool released;
} relay;

static int
relay_begin(void *ctx, gp_server_call *call, void **data)
{
    (void)ctx;
    (void)call;
    (void)data;
    return 1;
}

static int
ask(relay *one)
{
    gp_call_options options = options_for("/t/Relay");
    gp_call *call;
    int code;

    assert_int_equal(gp_call_start_unary(&call, one->channel, &options, text("x"), NULL), 0);
    code = outcome(call);
    gp_call_unref(call);
    return code;
}

static void
relay_run(void *ctx, gp_server_call *call, void *data)
{
    relay *self = ctx;
    gp_message *message;

    (void)data;
    assert_int_equal(gp_server_call_receive(call, &message, NULL), 1);
    gp_message_free(message);
    gp_server_call_reply(call, text(""), self->next != NULL ? ask(self->next) : 0, text(""),
                         no_metadata());
}

static void
relay_release(void *ctx)
{
    relay *self = ctx;

    gp_mutex_lock(&self->lock);
    self->released = true;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

static void
relay_open(relay *self, relay *next, int number)
{
    gp_server_options options = {
        .handler = {.begin = relay_begin, .run = relay_run, .release = relay_release},
        .handler_ctx = self,
        .max_workers = 1,
    };
    char target[64];

    *self = (relay){.next = next};
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
    snprintf(target, sizeof(target), "unix:/tmp/gp-relay-%d-%d", (int)getpid(), number);
    assert_int_equal(gp_server_new(&self->server, &options, NULL), 0);
    assert_int_equal(gp_server_listen(self->server, target, NULL, NULL), 0);
    assert_int_equal(gp_server_start(self->server, NULL), 0);
    assert_int_equal(gp_channel_open(&self->channel, target, NULL, NULL), 0);
}

static void
relay_close(relay *self)
{
    int64_t deadline = gp_deadline_in(20000);

    gp_channel_close(self->channel);
    gp_channel_unref(self->channel);
    gp_server_release(self->server);
    gp_mutex_lock(&self->lock);
    while (!self->released) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
}

static void *
ask_many_times(void *arg)
{
    uintptr_t failures = 0;

    for (int i = 0; i < 200; i++) {
        failures += ask(arg) != 0;
    }
    return (void *)failures;
}

/* Each handler waits for that of the next server, and is the only one its server may run. */
static void
handlers_call_other_servers_of_the_process(void **state)
{
    enum { LINE = 5, CALLERS = 4 };
    static relay line[LINE];
    pthread_t threads[CALLERS];

    (void)state;
    for (int i = LINE - 1; i >= 0; i--) {
        relay_open(&line[i], i + 1 < LINE ? &line[i + 1] : NULL, i);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_many_times, &line[0]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        void *failures;

        pthread_join(threads[i], &failures);
        assert_null(failures);
    }
    for (int i = 0; i < LINE; i++) {
        relay_close(&line[i]);
    }
}

/* A worker polls for a server's calls as soon as no client's thread does. */
static void
a_server_is_served_when_callers_leave(void **state)
{
    fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 2, 0);
    for (int i = 0; i < 50; i++) {
        echo(&self); /* this thread polls for itself, and stops */
        call = start_call(&self, "/t/Block", "");
        wait_inside(&self, 1); /* without polling */
        open_gate(&self);
        finish_call(call, 0);
        gp_mutex_lock(&self.lock);
        self.gate_open = false;
        gp_mutex_unlock(&self.lock);
    }
    fixture_stop(&self);
}

/* A task that runs until |released|. */
typedef struct job {
    gp__task task;
    struct jobs *of;
} job;

enum { JOBS = 10, LIMIT = 2 };

typedef struct jobs {
    gp__task_queue queue;
    job all[JOBS];
    gp_mutex lock;
    gp_cond changed;
    int running;
    int most; /* that ran at the same time */
    int done;
    int full; /* times that the queue has said so; under the engine's lock */
    bool released;
} jobs;

static void
run_job(gp__task *task)
{
    jobs *self = gp_container_of(task, job, task)->of;

    gp_mutex_lock(&self->lock);
    self->running++;
    self->most = self->running > self->most ? self->running : self->most;
    gp_cond_broadcast(&self->changed);
    while (!self->released) {
        gp_cond_wait(&self->changed, &self->lock);
    }
    self->running--;
    gp_mutex_unlock(&self->lock);
    gp_mutex_lock(&gp__engine_lock);
    gp__task_queue_end_task_locked(&self->queue);
    gp_mutex_unlock(&gp__engine_lock);
    gp_mutex_lock(&self->lock);
    self->done++;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

static void
count_full(gp__task_queue *queue)
{
    gp_container_of(queue, jobs, queue)->full++;
}

static void
wait_for_count(jobs *self, const int *count, int wanted)
{
    int64_t deadline = gp_deadline_in(20000);

    gp_mutex_lock(&self->lock);
    while (*count < wanted) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
}

static void
queues_keep_to_their_limits(void **state)
{
    static jobs self;
    gp__poller *poller;

    (void)state;
    assert_int_equal(gp__engine_start(&poller, NULL), 0);
    gp_mutex_init(&self.lock);
    gp_cond_init(&self.changed);
    gp__task_queue_init(&self.queue, LIMIT, count_full);
    for (int i = 0; i < JOBS; i++) {
        self.all[i] = (job){.task.run = run_job, .of = &self};
        gp_mutex_lock(&gp__engine_lock);
        gp__task_queue_add_locked(&self.queue, &self.all[i].task);
        gp_mutex_unlock(&gp__engine_lock);
    }
    wait_for_count(&self, &self.running, LIMIT);
    gp_mutex_lock(&gp__engine_lock);
    assert_int_equal(self.full, 1);
    gp_mutex_unlock(&gp__engine_lock);
    gp_mutex_lock(&self.lock);
    self.released = true;
    gp_cond_broadcast(&self.changed);
    gp_mutex_unlock(&self.lock);
    wait_for_count(&self, &self.done, JOBS);
    assert_int_equal(self.most, LIMIT);
}

/* The last test: no worker can be started any more, and what they would free is leaked. */
static void
the_workers_end(void **state)
{
    static fixture self;
    gp_call *call;

    (void)state;
    fixture_start(&self, 2, 0);
    call = start_call(&self, "/t/Block", "");
    wait_inside(&self, 1);
    assert_false(gp_grpc_shutdown(20)); /* one runs a handler */
    open_gate(&self);
    assert_true(gp_grpc_shutdown(20000));
    assert_true(atomic_load(&ended_workers) > 0);
    assert_int_equal(outcome(call), 0); /* the thread that waits polls */
    gp_call_unref(call);
    assert_true(gp_grpc_shutdown(0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_share_their_threads),
        cmocka_unit_test(a_busy_server_does_not_hold_up_others),
        cmocka_unit_test(handlers_call_other_servers_of_the_process),
        cmocka_unit_test(a_server_is_served_when_callers_leave),
        cmocka_unit_test(queues_keep_to_their_limits),
        cmocka_unit_test(the_workers_end),
    };

    gp_grpc_on_worker_exit(count_ended_worker);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
