/*
 * Layer: rpc. Streams that a server has reset because the deadline of the call has passed.
 *
 * A server has a timer of its own for each call with a deadline. Servers of Go answer its end by
 * RST_STREAM with the code CANCEL, which may arrive just before the client's timer has run. gRPC's
 * core takes that for DEADLINE_EXCEEDED only if the deadline has passed by its own clock, which is
 * in whole milliseconds (the deadline is rounded up, the time down) and is not read again for each
 * event. Otherwise the status is CANCELLED.
 */
#ifndef GP_RPC_RESET_H
#define GP_RPC_RESET_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/message.h"

/* gRPC's details of DEADLINE_EXCEEDED, as an array of characters. */
#define GP__DEADLINE_DETAILS "Deadline Exceeded"

/*
 * How many nanoseconds before the deadline a reset counts as made by it. The time that a server is
 * told is never too short, and starts when the server has received it. But a server that measures
 * in milliseconds may lose one when it reads the clock, and another one in its timer.
 */
enum { GP__RESET_EARLY = 2000000 };

/*
 * Whether a call ended because its deadline passed on the server, which has then reset the stream.
 * |code| and |details| are the status that gRPC gave it, |now| is when that was received.
 *
 * The details tell a reset from a status that the server sent and from one of this side's.
 */
bool gp__reset_by_deadline(int code, gp_bytes details, int64_t deadline, int64_t now);

#endif
