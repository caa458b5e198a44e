#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "os/fd.h"
#include "transport_fixture.h"

/* ---- Threads that wait ----------------------------------------------------------------------- */

typedef struct waiting_thread {
    pthread_t thread;
    line *line;
    int64_t deadline;
    const gp_interrupt *interrupt;
    bool returned; /* guarded by the transport's lock */
    int rc;
} waiting_thread;

static void *
wait_for_news(void *arg)
{
    waiting_thread *it = arg;
    gp__transport *transport = it->line->transport;

    gp_mutex_lock(&transport->lock);
    it->rc = gp__transport_wait_locked(transport, &it->line->news, it->deadline, it->interrupt);
    it->returned = true;
    gp_mutex_unlock(&transport->lock);
    return NULL;
}

static void
start_waiting(waiting_thread *it, line *on, int64_t deadline, const gp_interrupt *interrupt)
{
    *it = (waiting_thread){.line = on, .deadline = deadline, .interrupt = interrupt};
    assert_int_equal(pthread_create(&it->thread, NULL, wait_for_news, it), 0);
}

static int
stop_waiting(waiting_thread *it)
{
    pthread_join(it->thread, NULL);
    return it->rc;
}

/* Wait until a thread drives the transport of |it|, or |it| has returned from its wait. */
static void
await_driver(const waiting_thread *it)
{
    gp__transport *transport = it->line->transport;
    bool driven = false;

    while (!driven) {
        gp_mutex_lock(&transport->lock);
        driven = transport->role.driven || it->returned;
        gp_mutex_unlock(&transport->lock);
    }
}

/* Wait until |count| threads sleep while another one drives. */
static void
await_sleepers(const end *it, size_t count)
{
    size_t found = 0;

    while (found < count) {
        gp_link *link;

        found = 0;
        gp_mutex_lock(&it->transport->lock);
        for (link = gp_list_first(&it->transport->role.waiters); link != NULL;
             link = gp_list_next(&it->transport->role.waiters, link)) {
            found++;
        }
        gp_mutex_unlock(&it->transport->lock);
    }
}

static void
the_role_goes_from_thread_to_thread(void **state)
{
    enum { THREADS = 8 };
    waiting_thread threads[THREADS];
    line *lines[THREADS][2];
    end ends[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    for (int i = 0; i < THREADS; i++) {
        lines_open(ends, lines[i]);
        start_waiting(&threads[i], lines[i][0], patience(), NULL);
        await_driver(&threads[i]);
        await_sleepers(&ends[0], (size_t)i);
    }
    /* The one that has driven from the beginning leaves first, then the others in any order. */
    for (int i = 0; i < THREADS; i++) {
        line_send(lines[i * 3 % THREADS][1], "x", 1);
        assert_int_equal(stop_waiting(&threads[i * 3 % THREADS]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        line_close(lines[i][0]);
        line_close(lines[i][1]);
    }
    ends_release(ends);
}

static void *
call_often(void *arg)
{
    line *const *lines = arg;

    for (int i = 0; i < rounds(300); i++) {
        line_send(lines[0], "ping", 4);
        line_expect(lines[0], "pong");
    }
    return NULL;
}

static void *
answer_often(void *arg)
{
    line *const *lines = arg;

    for (int i = 0; i < rounds(300); i++) {
        line_expect(lines[1], "ping");
        line_send(lines[1], "pong", 4);
    }
    return NULL;
}

static void
sixteen_threads_on_each_side(void **state)
{
    enum { THREADS = 16 };
    pthread_t threads[THREADS][2];
    line *lines[THREADS][2];
    end ends[2];

    ends_open(ends, *(const carrier *)*state, NULL);
    for (int i = 0; i < THREADS; i++) {
        lines_open(ends, lines[i]);
        assert_int_equal(pthread_create(&threads[i][0], NULL, call_often, lines[i]), 0);
        assert_int_equal(pthread_create(&threads[i][1], NULL, answer_often, lines[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i][0], NULL);
        pthread_join(threads[i][1], NULL);
        line_close(lines[i][0]);
        line_close(lines[i][1]);
    }
    ends_release(ends);
}

/* A gate may be closed again before a thread that waited for it has run. */
static void
an_opened_gate_releases_all_that_waited(void **state)
{
    waiting_thread threads[3];
    line *lines[2];
    end ends[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    for (size_t i = 0; i < 3; i++) {
        start_waiting(&threads[i], lines[0], patience(), NULL);
        await_driver(&threads[i]);
        await_sleepers(&ends[0], i);
    }
    gp_mutex_lock(&ends[0].transport->lock);
    gp__transport_gate_open_locked(ends[0].transport, &lines[0]->news);
    lines[0]->news.open = false;
    gp_mutex_unlock(&ends[0].transport->lock);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stop_waiting(&threads[i]), 0);
    }
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

/* ---- Waits that end without news ------------------------------------------------------------- */

static void
deadlines_pass_while_driving_and_while_sleeping(void **state)
{
    waiting_thread driving;
    waiting_thread sleeping;
    line *lines[2];
    line *others[2];
    end ends[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    lines_open(ends, others);
    start_waiting(&driving, lines[0], patience(), NULL);
    await_driver(&driving);
    start_waiting(&sleeping, others[0], gp_deadline_in(5), NULL);
    assert_int_equal(stop_waiting(&sleeping), GP_ETIMEOUT);
    line_send(lines[1], "x", 1);
    assert_int_equal(stop_waiting(&driving), 0);

    start_waiting(&driving, others[0], gp_deadline_in(20), NULL);
    await_driver(&driving);
    lines[0]->news.open = false;
    start_waiting(&sleeping, lines[0], patience(), NULL);
    assert_int_equal(stop_waiting(&driving), GP_ETIMEOUT);
    line_send(lines[1], "x", 1); /* the other thread has to drive by now */
    assert_int_equal(stop_waiting(&sleeping), 0);
    line_close(lines[0]);
    line_close(lines[1]);
    line_close(others[0]);
    line_close(others[1]);
    ends_release(ends);
}

static int
check_flag(void *ctx)
{
    return atomic_load((atomic_int *)ctx);
}

static void
interrupts_end_waits(void **state)
{
    atomic_int stop = 0;
    const gp_interrupt interrupt = {.check = check_flag, .ctx = &stop};
    waiting_thread threads[2];
    line *lines[2];
    end ends[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    start_waiting(&threads[0], lines[0], GP__FOREVER, &interrupt);
    await_driver(&threads[0]);
    start_waiting(&threads[1], lines[0], GP__FOREVER, &interrupt);
    await_sleepers(&ends[0], 1);
    atomic_store(&stop, 1);
    assert_int_equal(stop_waiting(&threads[0]), GP_EUSER);
    assert_int_equal(stop_waiting(&threads[1]), GP_EUSER);
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

/* As a green thread waits: |ctx| counts. */
static int
wait_for_fd(void *ctx, int fd, int64_t timeout_ns)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int *calls = ctx;

    ++*calls;
    assert_true(fd >= 0);
    poll(&readable, 1, timeout_ns < 0 ? -1 : (int)(timeout_ns / GP__MS) + 1);
    return *calls > 1000 ? GP_EUSER : 0;
}

static void
waits_by_the_interrupt_do_not_block(void **state)
{
    int calls = 0;
    const gp_interrupt interrupt = {.check = check_flag, .ctx = &calls, .wait = wait_for_fd};
    line *lines[2];
    end ends[2];
    int rc;

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    for (size_t i = 0; i < 3; i++) {
        gp_mutex_lock(&ends[0].transport->lock);
        lines[0]->news.open = false;
        gp_mutex_unlock(&ends[0].transport->lock);
        line_send(lines[1], "x", 1);
        gp_mutex_lock(&ends[0].transport->lock);
        rc = gp__transport_wait_locked(ends[0].transport, &lines[0]->news, patience(), &interrupt);
        assert_false(ends[0].transport->role.driven);
        assert_int_equal(lines[0]->in.len, i + 1);
        gp_mutex_unlock(&ends[0].transport->lock);
        assert_int_equal(rc, 0);
    }
    gp_mutex_lock(&ends[0].transport->lock);
    lines[0]->news.open = false;
    rc = gp__transport_wait_locked(ends[0].transport, &lines[0]->news, gp_deadline_in(5),
                                   &interrupt);
    assert_int_equal(ends[0].transport->role.urgent, 0);
    gp_mutex_unlock(&ends[0].transport->lock);
    assert_int_equal(rc, GP_ETIMEOUT);
    assert_true(calls > 0);
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

/* ---- The reactor ----------------------------------------------------------------------------- */

/* A stream's user that reports its bytes by a deferred task. */
typedef struct reporter {
    gp__task task;
    gp__transport *transport;
    gp__transport_stream *stream;
    gp_mutex lock;
    gp_cond changed;
    bool on_reactor GP_GUARDED_BY(&lock);
    size_t reports GP_GUARDED_BY(&lock);
} reporter;

static void
report(gp__task *task)
{
    reporter *it = gp_container_of(task, reporter, task);

    gp_mutex_lock(&it->lock);
    it->reports++;
    it->on_reactor = gp__reactor_current();
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

static size_t
on_data(void *ctx, const unsigned char *bytes, size_t len)
{
    reporter *it = ctx;

    (void)bytes;
    gp_mutex_assert_held(&it->transport->lock);
    if (!gp_link_is_linked(&it->task.link)) {
        gp__transport_defer_locked(it->transport, &it->task);
    }
    return len;
}

static void
on_end(void *ctx, const gp_error *why)
{
    (void)why;
    on_data(ctx, NULL, 0);
}

static const gp__transport_stream_ops reporter_ops = {on_data, on_end, NULL};

static void
reporter_open(reporter *it, const line *on)
{
    memset(it, 0, sizeof(*it));
    it->task.run = report;
    it->transport = on->transport;
    it->stream = on->stream;
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    gp_mutex_lock(&it->transport->lock);
    gp__transport_stream_use_locked(it->stream, &reporter_ops, it);
    gp_mutex_unlock(&it->transport->lock);
}

static void
reporter_await(reporter *it, size_t reports)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->reports < reports) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static void
the_reactor_reads_when_no_thread_does(void **state)
{
    bool urgent = *(const bool *)*state;
    end ends[2];
    line *lines[2];
    line *others[2];
    reporter it;

    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    lines_open(ends, others);
    reporter_open(&it, lines[0]);
    gp_mutex_lock(&ends[0].transport->lock);
    gp__transport_urgent_locked(ends[0].transport, urgent ? 1 : 0);
    gp_mutex_unlock(&ends[0].transport->lock);
    for (size_t i = 1; i < 5; i++) {
        /* A thread drives, and leaves. */
        line_send(others[1], "x", 1);
        line_expect(others[0], "x");
        line_send(lines[1], "x", 1);
        reporter_await(&it, i);
        gp_mutex_lock(&it.lock);
        assert_true(it.on_reactor);
        gp_mutex_unlock(&it.lock);
    }
    gp_mutex_lock(&ends[0].transport->lock);
    gp__transport_urgent_locked(ends[0].transport, urgent ? -1 : 0);
    gp_mutex_unlock(&ends[0].transport->lock);
    line_close(lines[0]);
    line_close(lines[1]);
    line_close(others[0]);
    line_close(others[1]);
    ends_release(ends);
    gp_cond_release(&it.changed);
    gp_mutex_release(&it.lock);
}

/* Outside of callbacks, whether a thread drives or not, and when the connection is over. */
static void
deferred_tasks_run_soon(void **state)
{
    waiting_thread driving;
    end ends[2];
    line *lines[2];
    reporter it;

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    reporter_open(&it, lines[1]);
    for (size_t i = 1; i < 4; i++) {
        if (i == 2) {
            start_waiting(&driving, lines[0], patience(), NULL);
            await_driver(&driving);
        }
        it.transport = ends[0].transport;
        gp_mutex_lock(&it.transport->lock);
        if (i == 3) {
            gp_error why = GP_ERROR_INIT;

            gp_error_set(&why, GP_ECLOSED, "enough");
            gp__transport_end_locked(it.transport, &why);
            gp_error_release(&why);
        }
        gp__transport_defer_locked(it.transport, &it.task);
        gp_mutex_unlock(&it.transport->lock);
        reporter_await(&it, i);
    }
    assert_int_equal(stop_waiting(&driving), 0);
    it.transport = ends[1].transport;
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
    gp_cond_release(&it.changed);
    gp_mutex_release(&it.lock);
}

/* ---- Forks ----------------------------------------------------------------------------------- */

/*
 * The child says through a pipe what it found: its exit status is valgrind's, which finds there
 * what the parent's threads had.
 */
static void
a_forked_child_leaves_the_connection_alone(void **state)
{
    end ends[2];
    line *lines[2];
    bool closed = false;
    int result[2];
    pid_t pid;

    assert_int_equal(pipe(result), 0);
    ends_open(ends, *(const carrier *)*state, NULL);
    lines_open(ends, lines);
    line_send(lines[0], "before", 6);
    line_expect(lines[1], "before");
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = gp__stream_fd(ends[0].transport->channel.stream);

        gp__transport_close(ends[0].transport, NULL, 1000);
        gp__transport_unref(ends[0].transport);
        closed = fcntl(fd, F_GETFD) < 0;
        _exit(write(result[1], &closed, sizeof(closed)) == sizeof(closed) ? 0 : 1);
    }
    close(result[1]);
    assert_int_equal(read(result[0], &closed, sizeof(closed)), sizeof(closed));
    assert_true(closed);
    close(result[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    line_send(lines[0], "after", 5);
    line_expect(lines[1], "after");
    line_close(lines[0]);
    line_close(lines[1]);
    ends_release(ends);
}

#define WITH(test, how)                               \
    {                                                 \
        #test ": " #how, test, NULL, NULL, &(carrier) \
        {                                             \
            how                                       \
        }                                             \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_role_goes_from_thread_to_thread),
        WITH(sixteen_threads_on_each_side, PLAIN),
        WITH(sixteen_threads_on_each_side, SECURE),
        cmocka_unit_test(an_opened_gate_releases_all_that_waited),
        cmocka_unit_test(deadlines_pass_while_driving_and_while_sleeping),
        cmocka_unit_test(interrupts_end_waits),
        cmocka_unit_test(waits_by_the_interrupt_do_not_block),
        {"the_reactor_reads_when_no_thread_does", the_reactor_reads_when_no_thread_does, NULL, NULL,
         &(bool){false}},
        {"the_reactor_reads_at_once_what_is_urgent", the_reactor_reads_when_no_thread_does, NULL,
         NULL, &(bool){true}},
        cmocka_unit_test(deferred_tasks_run_soon),
        WITH(a_forked_child_leaves_the_connection_alone, PLAIN),
        WITH(a_forked_child_leaves_the_connection_alone, SECURE),
    };

    assert_int_equal(gp_runtime_init(), 0);
    return cmocka_run_group_tests(tests, transport_make_tls, transport_free_tls);
}
