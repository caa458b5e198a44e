/*
 * Layer: rpc. Give memory back to the system after a burst.
 *
 * A flood of calls, or of very large messages, leaves hundreds of megabytes in malloc's arenas,
 * from where the C library gives next to nothing back by itself: a plugin would keep what a peer
 * made it take once. So what a burst has taken is counted, and once it is over, after a second in
 * which nothing was added, the worker pool trims the arenas. Without glibc nothing happens.
 */
#ifndef GP_RPC_TRIM_H
#define GP_RPC_TRIM_H

#include <stddef.h>

/* About what a call takes in gRPC's core, in bytes. */
enum { GP__CALL_MEMORY = 16 << 10 };

/* Less than this is not counted for a message. */
enum { GP__TRIM_MESSAGE = 64 << 10 };

/* So many bytes have been taken, or are about to be freed. On the polling thread, without locks. */
void gp__trim_count(size_t bytes);

#endif
