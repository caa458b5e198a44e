/*
 * Two ends of a connection in one process, for the tests of netrpc/transport*.c: transports over a
 * pair of sockets, or over TLS on such a pair, and users of their streams that remember what came.
 */
#ifndef GP_TESTS_TRANSPORT_FIXTURE_H
#define GP_TESTS_TRANSPORT_FIXTURE_H

#include "base/buf.h"
#include "gp/tls.h"
#include "netrpc/transport.h"
#include "support.h"

enum { MOST_LINES = 1200 };

/* What carries a connection. */
typedef enum carrier { PLAIN, SECURE, RAW, RAW_SECURE, CARRIERS } carrier;

/* A user of a stream. Guarded by the transport's lock. */
typedef struct line {
    gp__transport *transport; /* borrowed */
    gp__transport_stream *stream;
    gp__buf in;              /* owned: what has come */
    gp__transport_gate news; /* opened by each callback */
    size_t calls;            /* of |received| */
    size_t writable;         /* calls of |writable| */
    bool idle;               /* uses none of the data */
    int ended;               /* calls of |ended| */
    gp_error why;            /* of |ended| */
} line;

/* One side: a transport, and the streams that the other side has opened. */
typedef struct end {
    gp__transport *transport;
    line *arrived[MOST_LINES]; /* owned until they are taken */
    size_t arrived_count;
    size_t taken;
    bool refusing;
    gp__transport_gate arrival;
    gp__transport_gate over;
    gp_error why;
    int over_calls; /* calls of |over| */
} end;

/* AutoMTLS's, as the two sides of a plugin have it; made and freed with a group of tests. */
extern gp_tls *transport_tls[2];
int transport_make_tls(void **state);
int transport_free_tls(void **state); /* ends the reactor, too */

/* Return as gp__transport_open(). The end must be zeroed memory. */
int end_try_open(end *it, int fd, carrier how, const gp__transport_options *options);

/* The first end is yamux's client. |options| may be NULL. */
void ends_open(end ends[2], carrier how, const gp__transport_options *options);

/* Close and free it. All lines are released. */
void end_release(end *it);
void ends_release(end ends[2]);

/* The same for a socket whose other end is used by hand. Returns the other end. */
int end_open_alone(end *it, carrier how, const gp__transport_options *options);

/* Open a stream. Of a raw connection each side opens the only one. */
line *line_open(end *it);

/* Make |it| the user of |stream|. */
void line_use_locked(line *it, gp__transport_stream *stream);

/* A user that uses all data and remembers nothing. */
extern const gp__transport_stream_ops ignoring_ops;

/* Wait for a stream that the other side opens. */
line *line_arrive(end *it);

/* Open a stream from the first end to the second; on a raw connection, on both. */
void lines_open(end ends[2], line *lines[2]);

/* Shut the stream down, release it and free the line. */
void line_close(line *it);

/* Release the stream without that, which resets it, and free the line. */
void line_abort(line *it);

void line_send(line *it, const void *bytes, size_t len);
void line_shutdown(line *it);

/* Wait until |len| bytes have come in all. */
void line_await(line *it, size_t len);

/* Wait for exactly this text, and forget it. */
void line_expect(line *it, const char *text);

/* Wait for the end. Returns its code. */
int line_await_end(line *it);

/* Wait for the end of the connection. Returns its code. */
int end_await_over(end *it);

#endif
