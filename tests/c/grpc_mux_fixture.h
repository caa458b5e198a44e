/*
 * Two ends of a multiplexed connection in one process, for the tests of services/grpc_mux*.c.
 */
#ifndef GP_TESTS_GRPC_MUX_FIXTURE_H
#define GP_TESTS_GRPC_MUX_FIXTURE_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gp/lock.h"
#include "os/fd.h"
#include "os/reactor.h"
#include "os/socket.h"
#include "services/grpc_mux_state.h"
#include "support.h"

/* A request, or the answer to one. */
typedef struct mux_message {
    uint32_t id;
    uint32_t serial;
    bool ack;
    char error[100];
} mux_message;

/*
 * One of the two ends. Their requests and answers go through the first stream, as with a broker, so
 * that they keep their order among the streams.
 */
typedef struct mux_end {
    gp_grpc_mux *mux;
    int wire;      /* owned: the first stream */
    gp_mutex lock; /* guards what follows, up to |failing| */
    gp_cond changed;
    mux_message messages[64];
    size_t sent;      /* messages by the mux */
    size_t delivered; /* messages that went into the stream */
    bool stop;
    bool held_back;       /* messages are sent and not delivered */
    bool failing;         /* messages cannot be sent */
    bool without_serials; /* post messages without serials, as go-plugin does */
    atomic_int uses;      /* references that the mux has to the context of its messages */
    pthread_t sender;
    pthread_t receiver;
} mux_end;

/* The plugin's listener, which the host's first stream has connected to. */
extern int main_listener;

/* Connect two ends; the first one is the host's. */
void mux_pair_open(mux_end ends[2]);
void mux_pair_close(mux_end ends[2]);

/* The part of mux_pair_close() before the muxes are closed. */
void mux_pair_stop_messages(mux_end ends[2]);

/* Callbacks of a gp__grpc_mux_sender whose context is a mux_end. */
int send_request(void *ctx, uint32_t id, uint32_t serial);
int send_answer(void *ctx, uint32_t id, uint32_t serial, const char *error);
void count_ref(void *ctx);
void count_unref(void *ctx);

/* Wait until this end has sent |count| messages in all. */
void await_sent(mux_end *it, size_t count);

void hold_messages_back(mux_end *it, bool held_back);

/* ---- Dialling ---- */

/* Returns the application's end of a dial: alternately one of a pair, and one that connects. */
int dial_either_way(mux_end *it, uint32_t id, gp__grpc_dial **dial);

/* Dial, and give up after the request has been sent. */
void dial_and_give_up(mux_end *it, uint32_t id);

/* Wait until the other side has accepted. */
void await_dialled(gp__grpc_dial *dial);

/* Wait until the connection of |dial| is queued behind another one. */
void await_queued(mux_end *it, const gp__grpc_dial *dial);

/* Dial connection 7, which has to fail with |reason|. */
void expect_dial_failure(mux_end *it, int64_t timeout_ms, const char *reason);

/* Behave as if the five seconds of the current request were over. */
void expire_request(mux_end *it);

/* ---- Sockets ---- */

/* Two servers that streams may be meant for. */
typedef struct server_pair {
    char paths[2][GP__GRPC_MUX_PATH];
    int listeners[2];
} server_pair;

void server_pair_open(server_pair *it);
void server_pair_close(server_pair *it);

int listen_at(char path[GP__GRPC_MUX_PATH], const char *name);
void close_listener(int listener, const char *path);
int connect_to(const char *path);
int await_connection(int listener);

/* Send |text|, which has to arrive. */
void expect_text(int from, int to, const char *text);

/* The same from |here| to what has connected to |listener|; both are closed. */
void expect_hello(int here, int listener);

/* The other end closes without having sent anything. Closes |fd|. */
void expect_hang_up(int fd);

#endif
