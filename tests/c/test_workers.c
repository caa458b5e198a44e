#include "netrpc/workers.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/container.h"
#include "transport_fixture.h"

/*
 * A server of one stream: each byte that comes is a request, and is answered by the same byte.
 * Guarded by the transport's lock, except for what its own lock guards.
 */
typedef struct service {
    gp__transport *transport;
    gp__transport_stream *stream;
    gp__worker_queue queue;
    line *back; /* borrowed: a stream to the other side, for calls back */
    atomic_bool slow[256];
    bool ended;
    gp__transport_gate end;

    gp_mutex lock;
    gp_cond changed;
    int begun GP_GUARDED_BY(&lock);  /* handlers of 's' */
    int inside GP_GUARDED_BY(&lock); /* handlers of 's' that have not been let go */
    int let_go GP_GUARDED_BY(&lock);
    pthread_t threads[64] GP_GUARDED_BY(&lock); /* that have run handlers */
    size_t threads_count GP_GUARDED_BY(&lock);
} service;

typedef struct request {
    gp__worker_task task;
    service *of;
    char kind;
} request;

static void
note_thread_locked(service *it) GP_REQUIRES(&it->lock)
{
    for (size_t i = 0; i < it->threads_count; i++) {
        if (pthread_equal(it->threads[i], pthread_self())) {
            return;
        }
    }
    assert_true(it->threads_count < sizeof(it->threads) / sizeof(it->threads[0]));
    it->threads[it->threads_count++] = pthread_self();
}

static void
block_until_let_go(service *it)
{
    gp_mutex_lock(&it->lock);
    it->begun++;
    it->inside++;
    gp_cond_broadcast(&it->changed);
    while (it->let_go == 0) {
        gp_cond_wait(&it->changed, &it->lock);
    }
    it->let_go--;
    it->inside--;
    gp_mutex_unlock(&it->lock);
}

/* Take one |kind| out of what has come on |on|. Returns whether there was one. */
static bool
take_answer(line *on, char kind)
{
    char *found = on->in.len > 0 ? memchr(on->in.data, kind, on->in.len) : NULL;

    if (found == NULL) {
        return false;
    }
    on->in.len--;
    memmove(found, found + 1, (size_t)(on->in.data + on->in.len - found));
    return true;
}

/* Send |kind| to the service at the other end of |on| and wait for its answer. */
static void
call_kind(line *on, char kind)
{
    gp_mutex_lock(&on->transport->lock);
    gp__transport_stream_send_locked(on->stream, &kind, 1, NULL);
    gp__transport_flush_locked(on->transport);
    while (!take_answer(on, kind) && on->ended == 0) {
        on->news.open = false;
        assert_int_equal(gp__transport_wait_locked(on->transport, &on->news, patience(), NULL), 0);
    }
    gp_mutex_unlock(&on->transport->lock);
}

/*
 * 's' blocks until it is let go; '1' to '9' call the other side back with one less; '0' ends that.
 */
static void
handle(gp__task *task)
{
    request *it = gp_container_of(task, request, task.task);
    service *of = it->of;

    gp_mutex_lock(&of->lock);
    note_thread_locked(of);
    gp_mutex_unlock(&of->lock);
    if (it->kind == 's') {
        block_until_let_go(of);
    } else if (it->kind > '0' && it->kind <= '9') {
        call_kind(of->back, (char)(it->kind - 1));
    }
    gp_mutex_lock(&of->transport->lock);
    if (!of->ended) {
        gp__transport_stream_send_locked(of->stream, &it->kind, 1, NULL);
        gp__transport_flush_locked(of->transport);
    }
    gp__worker_queue_end_task_locked(of->transport, &of->queue);
    if (gp__worker_queue_count_locked(of->transport, &of->queue) == 0) {
        gp__transport_gate_open_locked(of->transport, &of->end);
    }
    gp_mutex_unlock(&of->transport->lock);
    gp__free(it);
}

static size_t
on_requests(void *ctx, const unsigned char *bytes, size_t len)
{
    service *it = ctx;

    for (size_t i = 0; i < len; i++) {
        request *made = gp__calloc(1, sizeof(*made));

        assert_non_null(made);
        made->task.task.run = handle;
        made->task.slow = &it->slow[bytes[i]];
        made->of = it;
        made->kind = (char)bytes[i];
        gp__worker_queue_add_locked(it->transport, &it->queue, &made->task);
    }
    return len;
}

static void
on_end(void *ctx, const gp_error *why)
{
    service *it = ctx;

    (void)why;
    it->ended = true;
}

static const gp__transport_stream_ops service_ops = {on_requests, on_end, NULL};

/* Serve the stream of |on|, which is freed. */
static void
serve(service *it, line *on, int limit)
{
    memset(it, 0, sizeof(*it));
    gp_mutex_init(&it->lock);
    gp_cond_init(&it->changed);
    it->transport = on->transport;
    it->stream = on->stream;
    gp__worker_queue_init(&it->queue, limit);
    gp_mutex_lock(&it->transport->lock);
    gp__transport_stream_use_locked(it->stream, &service_ops, it);
    gp_mutex_unlock(&it->transport->lock);
    gp__free(on);
}

/* Wait for the handlers that run, and release the stream. */
static void
stop_serving(service *it)
{
    gp__worker_task *task;

    gp_mutex_lock(&it->transport->lock);
    it->ended = true;
    while ((task = gp__worker_queue_take_back_locked(it->transport, &it->queue)) != NULL) {
        gp__free(gp_container_of(task, request, task));
    }
    while (gp__worker_queue_count_locked(it->transport, &it->queue) > 0) {
        it->end.open = false;
        gp__transport_wait_locked(it->transport, &it->end, patience(), NULL);
    }
    gp__transport_stream_shutdown_locked(it->stream);
    gp__transport_stream_release_locked(it->stream);
    gp__transport_flush_locked(it->transport);
    gp_mutex_unlock(&it->transport->lock);
    gp_cond_release(&it->changed);
    gp_mutex_release(&it->lock);
}

/* Wait until |count| handlers of 's' are blocked. */
static void
await_inside(service *it, int count)
{
    int64_t deadline = patience();

    gp_mutex_lock(&it->lock);
    while (it->inside < count) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, deadline), 0);
    }
    gp_mutex_unlock(&it->lock);
}

static void
let_go(service *it, int count)
{
    gp_mutex_lock(&it->lock);
    it->let_go += count;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

/* Send |requests|, and wait for as many answers. */
static void
call(line *on, const char *requests)
{
    size_t len = strlen(requests);

    line_send(on, requests, len);
    line_await(on, len);
    gp_mutex_lock(&on->transport->lock);
    gp__buf_consume(&on->in, len);
    gp_mutex_unlock(&on->transport->lock);
}

/* Two ends; the second one serves the stream that |*caller| is the other end of. */
static void
open_service(end ends[2], line **caller, service *it, int limit)
{
    line *lines[2];

    ends_open(ends, PLAIN, NULL);
    lines_open(ends, lines);
    serve(it, lines[1], limit);
    *caller = lines[0];
}

static void
close_service(end ends[2], line *caller, service *it)
{
    stop_serving(it);
    line_close(caller);
    ends_release(ends);
}

/* ---- Quick handlers -------------------------------------------------------------------------- */

static void
each_request_is_answered(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 10);
    for (int i = 0; i < rounds(500); i++) {
        call(caller, "q");
        call(caller, "many at once");
    }
    close_service(ends, caller, &it);
}

static void
the_thread_that_waits_runs_no_handler(void **state)
{
    end ends[2];
    service services[2];
    line *there[2];
    line *back[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, there);
    lines_open(ends, back);
    serve(&services[1], there[1], 10);
    serve(&services[0], back[0], 10);
    services[1].back = back[1];
    for (int i = 0; i < rounds(100); i++) {
        call(there[0], "1");
    }
    gp_mutex_lock(&services[0].lock);
    assert_true(services[0].threads_count > 0);
    for (size_t i = 0; i < services[0].threads_count; i++) {
        assert_false(pthread_equal(services[0].threads[i], pthread_self()));
    }
    gp_mutex_unlock(&services[0].lock);
    stop_serving(&services[0]);
    stop_serving(&services[1]);
    line_close(there[0]);
    line_close(back[1]);
    ends_release(ends);
}

static void
calls_back_nest(void **state)
{
    end ends[2];
    service services[2];
    line *there[2];
    line *back[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, there);
    lines_open(ends, back);
    serve(&services[1], there[1], 10);
    serve(&services[0], back[0], 10);
    services[1].back = back[1];
    services[0].back = there[0];
    for (int i = 0; i < rounds(50); i++) {
        call_kind(there[0], '9');
    }
    stop_serving(&services[0]);
    stop_serving(&services[1]);
    line_close(there[0]);
    line_close(back[1]);
    ends_release(ends);
}

typedef struct caller_thread {
    pthread_t thread;
    end *on;
    line *line;
} caller_thread;

static void *
call_often(void *arg)
{
    caller_thread *it = arg;

    for (int i = 0; i < rounds(200); i++) {
        call(it->line, "q");
    }
    return NULL;
}

static void
many_threads_call(void **state)
{
    enum { THREADS = 16 };
    caller_thread threads[THREADS];
    service *services = gp__calloc(THREADS, sizeof(*services));
    end ends[2];

    (void)state;
    ends_open(ends, PLAIN, NULL);
    for (int i = 0; i < THREADS; i++) {
        line *lines[2];

        lines_open(ends, lines);
        serve(&services[i], lines[1], 2);
        threads[i].line = lines[0];
        assert_int_equal(pthread_create(&threads[i].thread, NULL, call_often, &threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        stop_serving(&services[i]);
        line_close(threads[i].line);
    }
    ends_release(ends);
    gp__free(services);
}

/* ---- Slow handlers --------------------------------------------------------------------------- */

static void
a_slow_handler_does_not_hold_up_others(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 10);
    call(caller, "q");
    for (int i = 0; i < 3; i++) { /* it is not known to be slow the first time */
        line_send(caller, "s", 1);
        await_inside(&it, 1);
        call(caller, "q");
        call(caller, "qq");
        let_go(&it, 1);
        line_expect(caller, "s");
    }
    close_service(ends, caller, &it);
}

/* The others have come in the same read. */
static void
what_waits_behind_a_slow_handler_goes_on(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 10);
    for (int i = 0; i < 3; i++) {
        line_send(caller, "sqqsq", 5);
        line_expect(caller, "qqq");
        await_inside(&it, 2);
        let_go(&it, 2);
        line_expect(caller, "ss");
    }
    close_service(ends, caller, &it);
}

static void
no_more_run_than_the_limit_allows(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 2);
    line_send(caller, "sssss", 5);
    for (int done = 0; done < 4; done++) {
        await_inside(&it, done < 4 ? 2 : 1);
        gp_mutex_lock(&it.lock);
        assert_int_equal(it.inside, 2);
        assert_true(it.begun == done + 2);
        gp_mutex_unlock(&it.lock);
        let_go(&it, 1);
        line_expect(caller, "s");
    }
    let_go(&it, 1);
    line_expect(caller, "s");
    close_service(ends, caller, &it);
}

static void *
expect_slow_answer(void *arg)
{
    line_expect(arg, "s");
    return NULL;
}

/* The thread that drives has done so for so long that the reactor does not look at it any more. */
static void
slow_handlers_are_noticed_after_a_long_wait(void **state)
{
    end ends[2];
    service services[2];
    line *there[2];
    line *back[2];
    bool looking = true;
    pthread_t driver;

    (void)state;
    ends_open(ends, PLAIN, NULL);
    lines_open(ends, there);
    lines_open(ends, back);
    serve(&services[0], back[0], 10);
    serve(&services[1], there[1], 10);
    line_send(there[0], "s", 1);
    await_inside(&services[1], 1);
    assert_int_equal(pthread_create(&driver, NULL, expect_slow_answer, there[0]), 0);
    while (looking) {
        gp_mutex_lock(&ends[0].transport->lock);
        looking = !ends[0].transport->role.driven || ends[0].transport->role.ticking;
        gp_mutex_unlock(&ends[0].transport->lock);
    }
    line_send(back[1], "ss", 2);
    await_inside(&services[0], 2);
    let_go(&services[0], 2);
    line_expect(back[1], "ss");
    let_go(&services[1], 1);
    pthread_join(driver, NULL);
    stop_serving(&services[0]);
    stop_serving(&services[1]);
    line_close(there[0]);
    line_close(back[1]);
    ends_release(ends);
}

/* Each stream has a queue of its own. */
static void
a_full_queue_does_not_hold_up_another(void **state)
{
    end ends[2];
    service services[2];
    line *callers[2];
    line *other[2];

    (void)state;
    open_service(ends, &callers[0], &services[0], 1);
    lines_open(ends, other);
    serve(&services[1], other[1], 1);
    callers[1] = other[0];
    line_send(callers[0], "sss", 3);
    await_inside(&services[0], 1);
    call(callers[1], "qqq");
    let_go(&services[0], 3);
    line_expect(callers[0], "sss");
    stop_serving(&services[1]);
    line_close(callers[1]);
    close_service(ends, callers[0], &services[0]);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void
the_connection_ends_while_handlers_run(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 2);
    line_send(caller, "ssss", 4);
    await_inside(&it, 2);
    gp__transport_close(ends[0].transport, NULL, 0);
    assert_true(end_await_over(&ends[1]) < 0);
    let_go(&it, 4);
    close_service(ends, caller, &it);
}

/* The last test: there are no workers after it. */
static void
the_end_waits_for_workers(void **state)
{
    end ends[2];
    service it;
    line *caller;

    (void)state;
    open_service(ends, &caller, &it, 2);
    call(caller, "q");
    line_send(caller, "s", 1);
    await_inside(&it, 1);
    assert_false(gp__workers_end(gp_deadline_in(1)));
    let_go(&it, 1);
    assert_true(gp__workers_end(patience()));
    line_expect(caller, "s");
    line_send(caller, "q", 1); /* never answered */
    close_service(ends, caller, &it);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_is_answered),
        cmocka_unit_test(the_thread_that_waits_runs_no_handler),
        cmocka_unit_test(calls_back_nest),
        cmocka_unit_test(many_threads_call),
        cmocka_unit_test(a_slow_handler_does_not_hold_up_others),
        cmocka_unit_test(what_waits_behind_a_slow_handler_goes_on),
        cmocka_unit_test(no_more_run_than_the_limit_allows),
        cmocka_unit_test(slow_handlers_are_noticed_after_a_long_wait),
        cmocka_unit_test(a_full_queue_does_not_hold_up_another),
        cmocka_unit_test(the_connection_ends_while_handlers_run),
        cmocka_unit_test(the_end_waits_for_workers),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down_reactor);
}
