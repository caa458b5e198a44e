/*
 * Layer: os. The addresses that plugins listen on, seen from the host; for the plugin's own side
 * see gp/listen.h. |network| is "unix" or "tcp"; a unix path that begins with '@' is an abstract
 * name.
 */
#ifndef GP_OS_SOCKET_H
#define GP_OS_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runtime.h"

/*
 * Connect. |*out| is a non-blocking, close-on-exec socket, the caller's to close; or -1 although
 * this succeeded: the listener's queue is full.
 *
 * Returns: 0, GP_EREATTACH with the reason, or GP_EUSER. Blocks until |deadline| at most.
 */
int gp__socket_connect(int *out, const char *network, const char *address, int64_t deadline,
                       const gp_interrupt *interrupt, gp_error *err);

/*
 * Connect to an address where a listener is known to be: as gp__socket_connect(), but if its queue
 * is full, wait.
 *
 * Returns: 0, GP_EOS, GP_EINVAL (the address means nothing), GP_ETIMEOUT or GP_EUSER.
 */
int gp__socket_reach(int *out, const char *network, const char *address, int64_t deadline,
                     const gp_interrupt *interrupt, gp_error *why);

/* What answers at an address. */
typedef struct gp__socket_found {
    int listener;  /* the pid of the process that made a unix socket listen; 0: unknown */
    char peer[64]; /* of TCP: the address that was connected to, in numbers; "": unknown */
} gp__socket_found;

/*
 * Connect and hang up, to find out whether there is a listener. |found| may be NULL.
 *
 * Returns: 0, GP_EREATTACH with the reason, or GP_EUSER. Blocks until |deadline| at most, also
 * while it looks up the name of a host.
 */
int gp__socket_probe(const char *network, const char *address, gp__socket_found *found,
                     int64_t deadline, const gp_interrupt *interrupt, gp_error *err);

/*
 * Listen at |address|; only this user may connect to a unix socket. |*port| (|port| may be NULL) is
 * the TCP port, also for "host:0". Returns: 0 with |*out| set, non-blocking, or GP_EOS.
 */
int gp__socket_listen(int *out, const char *network, const char *address, int *port, gp_error *err);

/*
 * Open the socket at |path| as a file, for functions that cannot take its path. |*fd| is the
 * caller's; |out| is another path of the socket, valid while |*fd| is open. Returns: 0 or GP_EOS.
 */
enum { GP__SOCKET_BY_FD = sizeof("/proc/self/fd/-2147483648") };
int gp__socket_open(int *fd, char out[GP__SOCKET_BY_FD], const char *path, gp_error *err);

/* Whether there is a socket at |path|. */
bool gp__socket_exists(const char *path);

/*
 * Whether the socket at |path| has no listener, or only one that a descendant of the dead process
 * |pid| has inherited. False also where that cannot be known. Never blocks.
 */
bool gp__socket_abandoned(const char *path, int pid);

#endif
