#include "grpc_mux_fixture.h"

int main_listener;

static int
add_message(mux_end *it, uint32_t id, uint32_t serial, bool ack, const char *error)
{
    assert_true(atomic_load(&it->uses) > 0);
    gp_mutex_lock(&it->lock);
    if (it->failing) {
        gp_mutex_unlock(&it->lock);
        return GP_ENOMEM;
    }
    assert_true(it->sent < 64);
    it->messages[it->sent] =
        (mux_message){.id = id, .serial = it->without_serials ? 0 : serial, .ack = ack};
    snprintf(it->messages[it->sent++].error, sizeof(it->messages[0].error), "%s", error);
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
    return 0;
}

int
send_request(void *ctx, uint32_t id, uint32_t serial)
{
    return add_message(ctx, id, serial, false, "");
}

int
send_answer(void *ctx, uint32_t id, uint32_t serial, const char *error)
{
    return add_message(ctx, id, serial, true, error);
}

void
count_ref(void *ctx)
{
    atomic_fetch_add(&((mux_end *)ctx)->uses, 1);
}

void
count_unref(void *ctx)
{
    atomic_fetch_sub(&((mux_end *)ctx)->uses, 1);
}

int
connect_to(const char *path)
{
    int fd;

    assert_int_equal(gp__socket_connect(&fd, "unix", path, patience(), NULL, NULL), 0);
    return fd;
}

int
await_connection(int listener)
{
    struct pollfd one = {.fd = listener, .events = POLLIN};
    int fd;

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

void
expect_text(int from, int to, const char *text)
{
    struct pollfd one = {.fd = to, .events = POLLIN};
    char bytes[64];

    assert_int_equal(send(from, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    assert_int_equal(recv(to, bytes, sizeof(bytes), 0), (ssize_t)strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

static void *
send_messages(void *arg)
{
    mux_end *it = arg;

    gp_mutex_lock(&it->lock);
    while (!it->stop) {
        if (it->delivered < it->sent && !it->held_back) {
            const mux_message one = it->messages[it->delivered++];

            gp_mutex_unlock(&it->lock);
            send(it->wire, &one, sizeof(one), MSG_NOSIGNAL);
            gp_mutex_lock(&it->lock);
        } else {
            gp_cond_wait(&it->changed, &it->lock);
        }
    }
    gp_mutex_unlock(&it->lock);
    return NULL;
}

static void *
receive_messages(void *arg)
{
    struct pollfd ready = {.events = POLLIN};
    mux_end *it = arg;
    mux_message one;

    ready.fd = it->wire;
    while (poll(&ready, 1, -1) >= 0 &&
           recv(it->wire, &one, sizeof(one), MSG_WAITALL) == (ssize_t)sizeof(one)) {
        if (one.ack) {
            gp__grpc_mux_answered(it->mux, one.id, one.serial, one.error);
        } else {
            gp__grpc_mux_requested(it->mux, one.id, one.serial);
        }
    }
    return NULL;
}

void
mux_pair_open(mux_end ends[2])
{
    char address[200];

    memset(ends, 0, 2 * sizeof(*ends));
    for (int i = 0; i < 2; i++) {
        const gp__grpc_mux_sender how = {send_request, send_answer, count_ref, count_unref,
                                         &ends[i]};

        assert_int_equal(gp_grpc_mux_new(&ends[i].mux, NULL, NULL), 0);
        gp_mutex_init(&ends[i].lock);
        gp_cond_init(&ends[i].changed);
        gp__grpc_mux_set_sender(ends[i].mux, &how);
    }
    assert_int_equal(
        gp__socket_listen(&main_listener, "unix", gp_grpc_mux_path(ends[1].mux), NULL, NULL), 0);
    snprintf(address, sizeof(address), "%s/host", make_directory());
    assert_int_equal(gp_grpc_mux_listen(ends[1].mux, "unix", address, NULL, NULL), 0);
    assert_int_equal(gp_grpc_mux_connect(ends[0].mux, "unix", address, PATIENCE_MS, NULL, NULL), 0);
    ends[0].wire = connect_to(gp_grpc_mux_path(ends[0].mux));
    ends[1].wire = await_connection(main_listener);
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i].wire, F_SETFL, 0); /* blocking, so that messages are read whole */
        assert_int_equal(pthread_create(&ends[i].sender, NULL, send_messages, &ends[i]), 0);
        assert_int_equal(pthread_create(&ends[i].receiver, NULL, receive_messages, &ends[i]), 0);
    }
}

void
mux_pair_stop_messages(mux_end ends[2])
{
    for (int i = 0; i < 2; i++) {
        gp_mutex_lock(&ends[i].lock);
        ends[i].stop = true;
        gp_cond_broadcast(&ends[i].changed);
        gp_mutex_unlock(&ends[i].lock);
        pthread_join(ends[i].sender, NULL);
        shutdown(ends[i].wire, SHUT_RDWR);
        pthread_join(ends[i].receiver, NULL);
        close(ends[i].wire);
    }
    close(main_listener);
}

void
mux_pair_close(mux_end ends[2])
{
    struct stat status;
    char path[200];

    mux_pair_stop_messages(ends);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s", gp_grpc_mux_directory(ends[i].mux));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0700);
        gp_grpc_mux_close(ends[i].mux);
        gp_grpc_mux_unref(ends[i].mux);
        assert_true(stat(path, &status) < 0);
        assert_int_equal(atomic_load(&ends[i].uses), 0);
        gp_mutex_release(&ends[i].lock);
        gp_cond_release(&ends[i].changed);
    }
    remove_directory();
}

int
dial_either_way(mux_end *it, uint32_t id, gp__grpc_dial **dial)
{
    static atomic_uint dialled;
    int fd;

    if (atomic_fetch_add(&dialled, 1) % 2 == 0) {
        assert_int_equal(gp__grpc_dial_start_pair(it->mux, id, dial, &fd, NULL), 0);
        return fd;
    }
    assert_int_equal(gp__grpc_dial_start(it->mux, id, dial, NULL), 0);
    return connect_to(gp__grpc_dial_path(*dial));
}

int
listen_at(char path[GP__GRPC_MUX_PATH], const char *name)
{
    int listener;

    snprintf(path, GP__GRPC_MUX_PATH, "%s/%s", make_directory(), name);
    assert_int_equal(gp__socket_listen(&listener, "unix", path, NULL, NULL), 0);
    return listener;
}

void
close_listener(int listener, const char *path)
{
    close(listener);
    unlink(path);
}

void
server_pair_open(server_pair *it)
{
    for (int i = 0; i < 2; i++) {
        it->listeners[i] = listen_at(it->paths[i], i == 0 ? "first" : "second");
    }
}

void
server_pair_close(server_pair *it)
{
    for (int i = 0; i < 2; i++) {
        close_listener(it->listeners[i], it->paths[i]);
    }
}

void
await_sent(mux_end *it, size_t count)
{
    gp_mutex_lock(&it->lock);
    while (it->sent < count) {
        assert_int_equal(gp_cond_wait_until(&it->changed, &it->lock, patience()), 0);
    }
    assert_int_equal(it->sent, count);
    gp_mutex_unlock(&it->lock);
}

void
hold_messages_back(mux_end *it, bool held_back)
{
    gp_mutex_lock(&it->lock);
    it->held_back = held_back;
    gp_cond_broadcast(&it->changed);
    gp_mutex_unlock(&it->lock);
}

void
expire_request(mux_end *it)
{
    gp_mutex_lock(&it->mux->lock);
    assert_non_null(it->mux->asking);
    it->mux->answer_until = 0;
    gp_mutex_unlock(&it->mux->lock);
    gp__grpc_mux_tick(it->mux);
}

void
await_dialled(gp__grpc_dial *dial)
{
    assert_int_equal(gp__grpc_dial_await(dial, "the other side", PATIENCE_MS, NULL, NULL), 0);
}

void
expect_hello(int here, int listener)
{
    int there = await_connection(listener);

    expect_text(here, there, "hello");
    close(here);
    close(there);
}

void
dial_and_give_up(mux_end *it, uint32_t id)
{
    size_t sent = it->sent;
    gp__grpc_dial *dial;
    int fd = dial_either_way(it, id, &dial);

    await_sent(it, sent + 1);
    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", PATIENCE_MS, &interrupt_now, NULL),
                     GP_EUSER);
    close(fd);
}

void
await_queued(mux_end *it, const gp__grpc_dial *dial)
{
    bool queued = false;

    while (!queued) {
        gp_mutex_lock(&it->mux->lock);
        queued = dial->queued;
        gp_mutex_unlock(&it->mux->lock);
        sched_yield();
    }
}

void
expect_hang_up(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    char byte;

    assert_int_equal(gp__fd_poll(&one, 1, patience()), 1);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

void
expect_dial_failure(mux_end *it, int64_t timeout_ms, const char *reason)
{
    gp_error err = GP_ERROR_INIT;
    gp__grpc_dial *dial;
    int fd = dial_either_way(it, 7, &dial);

    assert_int_equal(gp__grpc_dial_await(dial, "the plugin", timeout_ms, NULL, &err), GP_EBROKER);
    if (strstr(gp_error_message(&err), reason) == NULL) {
        fail_msg("%s", gp_error_message(&err));
    }
    gp_error_release(&err);
    close(fd);
}
