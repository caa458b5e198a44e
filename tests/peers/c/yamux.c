/*
 * One end of a yamux session on our own implementation, the twin of tests/peers/go/cmd/yamux, which
 * says what the arguments mean and what is sent:
 *
 *   yamux serve|drive listen|connect NETWORK ADDRESS [many|large|stalled]
 *
 * Only "unix" is listened on. Each stream has a thread of its own, with blocking calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/thread.h"
#include "gp/lock.h"
#include "mux/pump.h"
#include "os/fd.h"

enum { PERIOD = 65521, MEBIBYTE = 1 << 20, STREAMS = 1000, REQUEST = 13, STACK = 512 * 1024 };

static unsigned char pattern[PERIOD + MEBIBYTE];

static gp_mutex lock = GP_MUTEX_INIT;
static gp_cond changed = GP_COND_INIT;
static bool over;
static char failure[200]; /* the first one */

static void
fail(const char *what, char op, unsigned seed)
{
    gp_mutex_lock(&lock);
    if (failure[0] == '\0') {
        snprintf(failure, sizeof(failure), "%s (stream %u, %c)", what, seed, op);
    }
    gp_mutex_unlock(&lock);
}

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- Bytes ---- */

static void
make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++) {
        uint32_t n = (uint32_t)(i % PERIOD);

        pattern[i] = (unsigned char)((n * n >> 7) ^ (n >> 3) ^ n);
    }
}

static bool
write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t some = send(fd, at, len, MSG_NOSIGNAL);

        if (some < 0 && errno != EINTR) {
            return false;
        }
        at += some > 0 ? some : 0;
        len -= some > 0 ? (size_t)some : 0;
    }
    return true;
}

static bool
send_pattern(int fd, uint32_t seed, uint64_t size)
{
    for (uint64_t offset = 0; offset < size;) {
        uint64_t part = size - offset < 64 * 1024 ? size - offset : 64 * 1024;

        if (!write_all(fd, pattern + (seed + offset) % PERIOD, part)) {
            return false;
        }
        offset += part;
    }
    return true;
}

/* Until the end. */
static bool
take_pattern(int fd, uint32_t seed, uint64_t size)
{
    unsigned char bytes[256 * 1024];
    uint64_t offset = 0;
    ssize_t got;

    while ((got = recv(fd, bytes, sizeof(bytes), 0)) != 0) {
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 || offset + (uint64_t)got > size ||
            memcmp(bytes, pattern + (seed + offset) % PERIOD, (size_t)got) != 0) {
            return false;
        }
        offset += (uint64_t)got;
    }
    return offset == size;
}

/* ---- Threads ---- */

typedef struct stream {
    int fd;
    char op;
    uint64_t size;
    uint32_t seed;
    pthread_t thread;
} stream;

static void
start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    if (pthread_create(thread, &attr, run, arg) != 0) {
        die("pthread_create");
    }
    pthread_attr_destroy(&attr);
}

static void
set_blocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

/* ---- Serving ---- */

static void
await_end(void)
{
    gp_mutex_lock(&lock);
    while (!over) {
        gp_cond_wait(&changed, &lock);
    }
    gp_mutex_unlock(&lock);
}

static void
echo(int fd)
{
    char bytes[32 * 1024];
    ssize_t got;

    while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0 && write_all(fd, bytes, (size_t)got)) {
    }
}

static uint64_t
big_endian(const unsigned char *bytes, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static void *
obey(void *arg)
{
    int fd = (int)(intptr_t)arg;
    unsigned char request[REQUEST];

    if (recv(fd, request, REQUEST, MSG_WAITALL) == REQUEST) {
        uint64_t size = big_endian(request + 1, 8);
        uint32_t seed = (uint32_t)big_endian(request + 9, 4);

        switch (request[0]) {
        case 'e':
            echo(fd);
            break;
        case 's':
            send_pattern(fd, seed, size);
            break;
        case 't':
            if (take_pattern(fd, seed, size)) {
                write_all(fd, "k", 1);
            }
            break;
        case 'i':
            await_end();
            break;
        default:
            break;
        }
    }
    close(fd);
    return NULL;
}

static int
on_opened(void *ctx)
{
    pthread_t thread;
    int ends[2];

    (void)ctx;
    if (gp__fd_socketpair(ends, NULL) < 0) {
        return -1;
    }
    set_blocking(ends[1]);
    start_thread(&thread, obey, (void *)(intptr_t)ends[1]);
    pthread_detach(thread);
    return ends[0];
}

static void
on_ended(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
    gp_mutex_lock(&lock);
    over = true;
    gp_cond_broadcast(&changed);
    gp_mutex_unlock(&lock);
}

/* ---- Driving ---- */

static int
open_stream(gp__pump *pump, char op, uint64_t size, uint32_t seed)
{
    unsigned char request[REQUEST] = {(unsigned char)op};
    gp_error err = GP_ERROR_INIT;
    int ends[2];

    for (int i = 0; i < 8; i++) {
        request[1 + i] = (unsigned char)(size >> (56 - 8 * i));
    }
    for (int i = 0; i < 4; i++) {
        request[9 + i] = (unsigned char)(seed >> (24 - 8 * i));
    }
    if (gp__fd_socketpair(ends, &err) < 0 || gp__pump_open_stream(pump, ends[0], &err) < 0) {
        fail(gp_error_message(&err), op, seed);
        gp_error_release(&err);
        return -1;
    }
    set_blocking(ends[1]);
    write_all(ends[1], request, sizeof(request));
    return ends[1];
}

static void *
send_all(void *arg)
{
    stream *it = arg;

    if (!send_pattern(it->fd, it->seed, it->size) && it->op == 'e') {
        fail("sending stopped", it->op, it->seed);
    }
    shutdown(it->fd, SHUT_WR);
    return NULL;
}

static void *
run(void *arg)
{
    stream *it = arg;
    pthread_t sender;
    char answer;

    switch (it->op) {
    case 'e':
        start_thread(&sender, send_all, it);
        if (!take_pattern(it->fd, it->seed, it->size)) {
            fail("wrong echo", it->op, it->seed);
        }
        pthread_join(sender, NULL);
        break;
    case 's':
        if (!take_pattern(it->fd, it->seed, it->size)) {
            fail("wrong bytes", it->op, it->seed);
        }
        break;
    case 't':
        if (!send_pattern(it->fd, it->seed, it->size)) {
            fail("sending stopped", it->op, it->seed);
        }
        shutdown(it->fd, SHUT_WR);
        if (recv(it->fd, &answer, 1, 0) != 1 || answer != 'k') {
            fail("wrong bytes arrived", it->op, it->seed);
        }
        break;
    case 'r':
        if (send_pattern(it->fd, it->seed, it->size)) {
            fail("an unread stream took everything", it->op, it->seed);
        }
        break;
    default:
        break;
    }
    close(it->fd);
    return NULL;
}

static void
run_one(gp__pump *pump, char op, uint64_t size, uint32_t seed)
{
    stream it = {.op = op, .size = size, .seed = seed, .fd = open_stream(pump, op, size, seed)};

    if (it.fd >= 0) {
        run(&it);
    }
}

static void
many(gp__pump *pump)
{
    static stream streams[STREAMS];

    for (unsigned i = 0; i < STREAMS; i++) {
        stream *it = &streams[i];

        *it = (stream){.op = "esteste"[i % 7], .size = (uint64_t)rand() % 65536, .seed = i};
        if (i % 40 == 0) {
            it->size *= 40;
        }
        if (i % 25 == 7) {
            it->op = 'r';
            it->size = 4 << 20;
        }
        it->fd = open_stream(pump, it->op, it->size, it->seed);
        if (it->fd >= 0) {
            start_thread(&it->thread, run, it);
        }
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        if (streams[i].fd >= 0) {
            pthread_join(streams[i].thread, NULL);
        }
    }
}

static void
large(gp__pump *pump)
{
    run_one(pump, 't', 1 << 30, 5);
    run_one(pump, 's', 1 << 30, 5);
}

static void
stalled(gp__pump *pump)
{
    static stream streams[10];

    for (unsigned i = 0; i < 10; i++) {
        streams[i] = (stream){.op = 'i', .size = 16 << 20, .seed = i};
        streams[i].fd = open_stream(pump, 'i', 0, i);
        start_thread(&streams[i].thread, send_all, &streams[i]);
        pthread_detach(streams[i].thread);
    }
    for (unsigned i = 0; i < 50; i++) {
        run_one(pump, 'e', 300000, i);
    }
}

/* ---- The connection ---- */

static int
open_socket(const char *how, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int accepted;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (strcmp(how, "connect") == 0) {
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
            die("connect");
        }
        return fd;
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        die("listen");
    }
    printf("listening\n");
    fflush(stdout);
    accepted = accept(fd, NULL, NULL);
    if (accepted < 0) {
        die("accept");
    }
    close(fd);
    return accepted;
}

int
main(int argc, char **argv)
{
    gp__pump_options options = {.accept = on_opened, .over = on_ended};
    gp__stream *connection;
    gp__pump *pump;
    int64_t begun;

    if (argc < 5) {
        fprintf(stderr, "usage: yamux serve|drive listen|connect unix PATH [TEST]\n");
        return 2;
    }
    make_pattern();
    options.session.client = strcmp(argv[2], "connect") == 0;
    options.session.keepalive = 30000 * GP__MS;
    options.session.timeout = 10000 * GP__MS;
    if (gp__stream_socket_new(&connection, open_socket(argv[2], argv[4]), NULL) < 0 ||
        gp__pump_open(&pump, connection, &options, NULL) < 0) {
        die("pump");
    }
    begun = gp__now();
    if (strcmp(argv[1], "serve") == 0) {
        await_end();
        gp__pump_close(pump, 0);
        return 0;
    }
    if (strcmp(argv[5], "many") == 0) {
        many(pump);
    } else if (strcmp(argv[5], "large") == 0) {
        large(pump);
    } else {
        stalled(pump);
    }
    printf("{\"seconds\": %.3f, \"error\": %s%s%s}\n", (double)(gp__now() - begun) / 1e9,
           failure[0] != '\0' ? "\"" : "", failure[0] != '\0' ? failure : "null",
           failure[0] != '\0' ? "\"" : "");
    fflush(stdout);
    _exit(0); /* threads that write to unread streams still run */
}
