/*
 * Layer: public. One plugin as its host sees it: launched or joined, mirrored, reached, killed.
 *
 *      new --start--> STARTING --handshake--> RUNNING --death or kill--> EXITED
 *                         \--failure: killed, reaped--------------------->'
 *
 * Every function may be called from any thread at any time. Blocking ones take a gp_interrupt.
 */
#ifndef GP_CLIENT_H
#define GP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/broker.h"
#include "gp/channel.h"
#include "gp/error.h"
#include "gp/handshake.h"
#include "gp/log.h"
#include "gp/runner.h"
#include "gp/runtime.h"
#include "gp/stdio.h"
#include "gp/tls.h"

typedef struct gp_client gp_client;

/* Where a plugin listens. Strings are owned by the client and live as long as it. */
typedef struct gp_endpoint {
    const char *network;  /* "unix" or "tcp" */
    const char *address;  /* the socket's path, or host:port */
    const char *target;   /* the same for gRPC: "unix:/path" or host:port */
    const char *protocol; /* "grpc" or "netrpc" */
    int version;          /* the application protocol version that was agreed */
} gp_endpoint;

/*
 * Who is told of the plugin's end. |exited| is called once, after a start that succeeded, when the
 * process has ended by itself or was killed: on a thread of the library or on the one that kills,
 * with no lock held; it must not block. |status| as gp_client_exit_status(). If it never comes to
 * that (nobody can tell, or the client is freed before) |release| is called instead.
 */
typedef struct gp_exit_sink {
    void (*exited)(void *ctx, int status); /* NULL: nobody */
    void (*release)(void *ctx);            /* may be NULL */
    void *ctx;
} gp_exit_sink;

/* How to launch. Everything is copied by gp_client_new(). */
typedef struct gp_client_options {
    const char *const *argv; /* argv[0] is the program; NULL-terminated. NULL when reattaching */
    const char *const *env;  /* the child's whole environment but for the protocol's own variables;
                                NULL: nothing else. Of several entries for a key the last counts */
    gp_runner runner;        /* starts it instead, if |start| is set; argv[0] is its name then */
    const char *directory;   /* working directory; NULL: the host's */

    bool detach; /* it outlives this process, and the client: only gp_client_kill() ends it */

    /*
     * Whatever the process has started is killed with it, and when it has ended by itself; for
     * Linux with pidfds. The string begins the value of a variable in their environment, the rest
     * of which is made for this launch. NULL: the process alone is. Excludes reattaching and
     * runners.
     */
    const char *kill_group;

    const char *cookie_key;
    const char *cookie_value;
    const int *versions; /* application protocol versions that the host speaks */
    size_t versions_count;
    unsigned protocols; /* GP_PROTOCOL_* that the host accepts */
    int min_port;
    int max_port;
    int64_t start_timeout_ms;
    int64_t
        kill_timeout_ms; /* for exiting by itself when it is to be killed; 0: it is not asked to */
    size_t
        skip_output; /* how many lines of its stdout are passed over until there is a handshake */

    /*
     * Where a private directory for the plugin's sockets is made, to be removed with the plugin;
     * NULL: none, the plugin's temporary directory will do. And who may use the sockets besides
     * this user, a group's name or number; NULL: nobody.
     */
    const char *unix_socket_dir;
    const char *unix_socket_group;

    /*
     * At most one of them. A shared reference is taken of |tls|; with |auto_mtls| one is made for
     * this launch, which excludes reattaching.
     */
    gp_tls *tls;
    bool auto_mtls;

    /*
     * What runs has to have this checksum; |checksum_hash| as for gp_checksum_size(), NULL:
     * anything may run. Excludes reattaching. A file of more than |checksum_max_size| bytes is not
     * read; 0: any size.
     */
    const char *checksum_hash;
    const unsigned char *checksum;
    size_t checksum_len;
    uint64_t checksum_max_size;

    bool multiplex; /* everything over one connection; the plugin has to be able to */

    gp_channel_args
        *channel_args; /* of its channels, brokered ones too; a reference is taken. Or NULL */

    /* Reattaching: both strings set. */
    const char *reattach_network;
    const char *reattach_address;
    const char *reattach_protocol;
    int reattach_version;
    int reattach_pid;                       /* -1: unknown */
    bool reattach_test;                     /* kill leaves the process alone */
    unsigned long long reattach_start_time; /* as gp_client_start_time(); 0: unknown */

    gp_log_sink log;        /* where the plugin's stderr goes; |deliver| may be NULL: nowhere */
    size_t log_buffer_size; /* a longer line is passed on in pieces; 0: 64 KiB */
    gp_output_sink output;  /* where what it prints after the handshake goes */

    gp_exit_sink exit;

    bool managed; /* gp_client_kill_all(true, ...) is for this one too */
} gp_client_options;

/*
 * Make a client; nothing is started. The three sinks and the runner are taken over even if this
 * fails, and have been released then.
 *
 * Returns: 0, GP_EINVAL, GP_ENOMEM or GP_EFORKED.
 */
int gp_client_new(gp_client **out, const gp_client_options *options, gp_error *err);

/*
 * Launch (or join) and wait for the handshake. Happens once: later calls wait for the first and
 * report its outcome. On failure the process has been killed and reaped before this returns, and
 * the message begins with the plugin's name. GP_EHANDSHAKE and GP_EVERSION carry the line as
 * detail, GP_EEXITED and GP_ESTARTTIMEOUT the tail of the plugin's stderr, GP_ETLS one of
 * gp/tls.h's words, GP_ECHECKSUM "HASH EXPECTED FOUND". With TLS the connection has been made, too.
 *
 * Returns: 0, or GP_ESTART, GP_EEXITED, GP_ESTARTTIMEOUT, GP_EHANDSHAKE, GP_EVERSION, GP_EREATTACH,
 * GP_ETLS, GP_ECHECKSUM, GP_ECLOSED (killed before or meanwhile), GP_EFORKED, GP_EUSER.
 */
int gp_client_start(gp_client *client, const gp_interrupt *interrupt, gp_error *err);

/* NULL before a successful start. */
const gp_endpoint *gp_client_endpoint(gp_client *client);

/*
 * The one channel to the plugin, made at start. Borrowed: take a reference to keep it. May be NULL.
 */
gp_channel *gp_client_channel(gp_client *client);

/* What connects it with the plugin further, as gp_client_channel(). */
gp_broker *gp_client_broker(gp_client *client);

/* Health check of the service "plugin". 0, or GP_ERPC with the reason, GP_ECLOSED, GP_EUSER. */
int gp_client_ping(gp_client *client, int64_t timeout_ms, const gp_interrupt *interrupt,
                   gp_error *err);

/*
 * Shut the plugin down: ask it, wait up to 2 s for it to exit by itself, then SIGKILL; reap; wait
 * until its log and its output have been delivered, up to 5 s. Idempotent; a second caller waits
 * for the first. Before start it makes every later start fail. An interrupt cuts the patience
 * short, not the killing. Called from an interrupt of its own start or kill, which it cannot wait
 * for, it has that end soon, and returns. A runner that is about to start the process has 5 s to
 * come back; if it does later, the process is killed then.
 *
 * Returns: 0, or GP_EUSER after the process has been killed all the same.
 */
int gp_client_kill(gp_client *client, const gp_interrupt *interrupt);

/*
 * Whether the plugin was reached and is gone: it has exited, or was killed by gp_client_kill()
 * (which for a test client means that it was let go). False before start. True at once after a call
 * that failed because the plugin died, which is why this may wait some milliseconds for a process
 * that is just exiting. No lock is held meanwhile.
 */
bool gp_client_exited(gp_client *client);

/* Exit status once exited (-N for signal N; GP_STATUS_UNKNOWN if nobody could tell). */
int gp_client_exit_status(gp_client *client);

/* The process id; -1 before start or when unknown. */
int gp_client_pid(gp_client *client);

/*
 * When the process started, in the system's own terms: with the pid it names one process only. 0
 * before start or when unknown.
 */
unsigned long long gp_client_start_time(gp_client *client);

/*
 * Kill what was launched and still runs, without patience, and free. What was joined or detached is
 * let go. No
 * other function may be running on |client|. Does nothing in a forked child.
 */
void gp_client_free(gp_client *client);

/*
 * Kill many clients in parallel, as gp_client_kill() does: the managed ones, or (for process exit)
 * those too that were launched and not detached, whose calls are then cancelled first. Blocks. An
 * interrupt cuts the patience of all of them short.
 *
 * Returns: 0, GP_EFORKED or GP_EUSER.
 */
int gp_client_kill_all(bool managed_only, const gp_interrupt *interrupt);

#endif
