/*
 * Two ends of a yamux session in one process, for the tests of mux/pump.c and mux/bridge.c: over a
 * pair of sockets, or over TLS on such a pair.
 */
#ifndef GP_TESTS_PUMP_FIXTURE_H
#define GP_TESTS_PUMP_FIXTURE_H

#include "gp/lock.h"
#include "gp/tls.h"
#include "mux/pump.h"
#include "support.h"

enum { MOST_ARRIVED = 1200 };

/* One side: a pump, the streams that the other side has opened, and how it ended. */
typedef struct side {
    gp__pump *pump;
    gp_mutex lock;
    gp_cond changed;
    int arrived[MOST_ARRIVED];
    size_t arrived_count;
    size_t taken;
    bool refusing;
    bool held; /* |accept| waits while it is set */
    bool in_callback;
    int over; /* code */
    char reason[200];
} side;

/* AutoMTLS's, as the two sides of a plugin have it; made and freed with a group of tests. */
extern gp_tls *pump_host_tls;
extern gp_tls *pump_plugin_tls;
int pump_make_tls(void **state);
int pump_free_tls(void **state); /* ends the reactor, too */

void side_init(side *it);
void side_release(side *it);

/* Start the session of |it| over a socket, which is the pump's. Returns as gp__pump_open(). */
int side_open(side *it, int fd, gp__yamux_options session);
int side_open_secure(side *it, int fd, gp_tls *tls, gp__yamux_options session);

/* The first of two sides is the client, and the host. */
void pump_open_pair(side sides[2], bool secure);
int pump_try_open_pair(side sides[2], bool secure);

/* Wait for a stream that the other side opens: its local end. */
int pump_await_arrival(side *it);

/* Wait for the end of the session. */
void pump_await_over(side *it);

/* Open a stream; |*out| is the end to use. */
int pump_try_dial(gp__pump *pump, int *out);
int pump_dial(side *it);

void pump_await_fd(int fd, short events);

/* Send all of it. */
void pump_put(int fd, const void *bytes, size_t len);

/* Returns how much came before the end, at most |len|. */
size_t pump_get(int fd, void *bytes, size_t len);

void pump_expect(int fd, const char *text);
void pump_expect_end(int fd);

#endif
