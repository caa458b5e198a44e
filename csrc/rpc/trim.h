/*
 * Layer: rpc. Giving memory back to the system after a burst.
 *
 * A flood of calls, or of very large messages, leaves hundreds of megabytes in malloc's arenas, and
 * the C library gives next to nothing of that back by itself: a plugin would keep the memory that a
 * peer has made it use once. So the bytes that calls use are counted. After a burst, once nothing
 * has been added for a second, a worker trims the arenas. Without glibc nothing happens.
 */
#ifndef GP_RPC_TRIM_H
#define GP_RPC_TRIM_H

#include <stddef.h>

/* About how much memory gRPC's core uses for a call, in bytes. */
enum { GP__CALL_MEMORY = 16 << 10 };

/* Messages of fewer bytes are not counted. */
enum { GP__TRIM_MESSAGE = 64 << 10 };

/* Count |bytes| that have been used or are about to be freed. No lock may be held. */
void gp__trim_count(size_t bytes);

#endif
