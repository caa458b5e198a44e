/*
 * A server with a scriptable handler and a channel to it, for the tests of rpc/ and services/.
 *
 * Methods: /t/Echo one reply; /t/Count replies 1, 2, ... as many bytes each as the request has,
 * until stopped; /t/Chat echoes each message; /t/Block answers after open_gate(); /t/Fail ends with
 * FAILED_PRECONDITION and trailing metadata.
 */
#ifndef GP_TESTS_RPC_FIXTURE_H
#define GP_TESTS_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "completions.h"
#include "gp/broker.h"
#include "gp/call.h"
#include "gp/channel.h"
#include "gp/grpc_status.h"
#include "gp/lock.h"
#include "gp/server.h"
#include "gp/services.h"
#include "support.h"

typedef struct fixture {
    gp_server *server;
    gp_broker *broker; /* the plugin's side */
    gp_channel *channel;
    char target[64];
    completions completions; /* for the test's callbacks */
    atomic_int finished;     /* calls of /t/Block that have ended */
    gp_mutex lock;           /* guards what follows */
    gp_cond changed;
    bool gate_open;        /* /t/Block may answer */
    int inside;            /* handlers in /t/Block */
    bool released;         /* the server is gone */
    gp_server_call *taken; /* by fixture_take(), and not yet by take_call() */
} fixture;

/* ---- The server ---- */

/* The handler. It has a fixture as its context; take is fixture_take() or NULL. */
int fixture_begin(void *ctx, gp_server_call *call, void **data);
void fixture_run(void *ctx, gp_server_call *call, void *data);
void fixture_release(void *ctx);

/* Keeps one call for take_call(). */
void fixture_take(void *ctx, gp_server_call *call);

/* A server with health, controller and broker, and a channel to it. */
void fixture_start(fixture *self, int max_workers, int max_concurrent);

/* The same, with a handler that has |take|, which may be NULL. */
void fixture_open(fixture *self, int max_workers, int max_concurrent,
                  void (*take)(void *ctx, gp_server_call *call));
void fixture_stop(fixture *self);

/* For cmocka: a fixture as the test's state; with _taking the server hands all its calls over. */
int fixture_setup(void **state);
int fixture_setup_taking(void **state);
int fixture_teardown(void **state);

/* The next call of a server that hands its calls over. */
gp_server_call *take_call(fixture *self);

/* Let /t/Block answer. */
void open_gate(fixture *self);

/* Wait until |count| handlers are inside /t/Block. */
void wait_inside(fixture *self, int count);

/* Add one to an atomic_int. */
void count_finished(void *ctx);

/* ---- Calls ---- */

gp_bytes text(const char *s);
gp_metadata no_metadata(void);
gp_call_options options_for(const char *method);

/* Start a unary call. */
gp_call *start_call(fixture *self, const char *method, const char *request);

/* Start a stream, with one request unless |request| is NULL, that is served without a waiter. */
gp_call *open_stream(fixture *self, const char *method, const char *request);

/* Wait for a call; its status code. */
int outcome(gp_call *call);

/* Wait for a call's end, whose status has to be |code|, and give the call back. */
void finish_call(gp_call *call, int code);

/* Whether the reply of a finished call is |expected|. */
void assert_reply(gp_call *call, const char *expected);

/* ---- Messages of streams ---- */

/* A gp_received whose context is a completions, which keeps the message. */
void on_received(void *ctx, gp_message *message);

/* Whether |message| is there and |expected|. It stays the caller's. */
void assert_message(const gp_message *message, const char *expected);

/* Receive one message, which has to be |expected|. */
void expect_message(gp_call *call, const char *expected);

/* Receive |count| messages, the numbers from 0 on, each an unsigned. */
void expect_numbers(gp_call *call, unsigned count);

/* Receive the end of the messages; the call's status has to be |code|. */
void expect_end(gp_call *call, int code);

#endif
