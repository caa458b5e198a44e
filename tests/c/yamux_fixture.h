/*
 * One end of a yamux session, and frames by hand, for the tests of mux/yamux*.c.
 */
#ifndef GP_TESTS_YAMUX_FIXTURE_H
#define GP_TESTS_YAMUX_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/yamux.h"
#include "support.h"

/* A client and a server with the usual options. */
extern const gp__yamux_options plain[2];

gp__yamux *make_session(const gp__yamux_options *options);

/* Have |session| receive a frame's header. Returns what gp__yamux_receive() returns. */
int give_frame(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length,
               gp__yamux_event *event);

/* The same with |len| zero bytes of a frame's payload, which are all taken. */
int give_bytes(gp__yamux *session, size_t len, gp__yamux_event *event);

/* No event is left. */
void expect_no_event(gp__yamux *session);

/* Take the next frame off the output. */
gp__yamux_header next_frame(gp__yamux *session);

/* Take the next frame off the output, which has to be this one. */
void expect_frame(gp__yamux *session, uint8_t type, unsigned flags, uint32_t id, uint32_t length);

/* The output is empty. */
void expect_silence(gp__yamux *session);

/* Write up to |len| zero bytes. Returns how many there was room for. */
size_t write_zeros(gp__yamux_stream *stream, size_t len);

#endif
