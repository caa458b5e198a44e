/*
 * Layer: public. One plugin as its host sees it: launched or joined, connected to, and killed.
 *
 *      new --start--> STARTING --handshake--> RUNNING --death or kill--> EXITED
 *                         \--failure: killed, reaped--------------------->'
 *
 * Every function but gp_client_free() may be called from any thread at any time. Functions that
 * block take a gp_interrupt.
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
#include "gp/mux_broker.h"
#include "gp/netrpc.h"
#include "gp/runner.h"
#include "gp/runtime.h"
#include "gp/stdio.h"
#include "gp/template.h"
#include "gp/tls.h"

typedef struct gp_client gp_client;

/* Where a plugin listens. The strings are owned by the client, and live as long as it does. */
typedef struct gp_endpoint {
    const char *network;  /* "unix" or "tcp" */
    const char *address;  /* the socket's path, or host:port */
    const char *target;   /* the same for gRPC: "unix:/path" or host:port */
    const char *protocol; /* "grpc" or "netrpc" */
    int version;          /* the application protocol version that was agreed */
} gp_endpoint;

/*
 * Callbacks for the plugin's end. After a start that has succeeded, |exited| is called once, when
 * the process has ended by itself or was killed: on a thread of the library or on the thread that
 * kills, with no lock held; it must not block. |status| is as in gp_client_exit_status(). If the
 * end cannot be noticed, or the client is freed before it, |release| is called instead.
 */
typedef struct gp_exit_sink {
    void (*exited)(void *ctx, int status); /* NULL: there is no sink */
    void (*release)(void *ctx);            /* may be NULL */
    void *ctx;
} gp_exit_sink;

/* How to launch. Everything is copied by gp_client_new(). */
typedef struct gp_client_options {
    /* Begins every message. NULL: argv[0]'s base name, or the address to reattach to. */
    const char *name;
    const char *const *argv; /* argv[0] is the program; NULL-terminated. NULL when reattaching */
    /*
     * The plugin's whole environment, apart from the protocol's own variables; NULL: only those. Of
     * several entries for a key the last one counts.
     */
    const char *const *env;
    /* If its |start| is set, it starts the plugin, and argv[0] is only the plugin's name. */
    gp_runner runner;
    const char *directory; /* working directory; NULL: the host's */
    /* Launch a copy of this, if it lives. A reference is taken. NULL: none. Excludes checksums. */
    gp_template *tmpl;

    bool detach; /* the plugin outlives this process: only gp_client_kill() ends it */

    /*
     * All processes that the plugin has started are killed with it, or when it has ended by itself.
     * This needs Linux with pidfds. The value of a variable in their environment begins with this
     * string; the rest of the value is made for this launch. NULL: only the plugin is killed.
     * Excludes reattaching and runners.
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
    /* How long gp_client_kill() lets the plugin exit by itself; 0: the plugin is not asked to. */
    int64_t kill_timeout_ms;
    /* How many lines the plugin may print to stdout before the handshake. */
    size_t skip_output;

    /*
     * A private directory for the plugin's sockets is made in |unix_socket_dir|, and removed with
     * the plugin; NULL: the plugin uses its temporary directory. |unix_socket_group|, the name or
     * number of a group, may use the sockets besides this user; NULL: no group may.
     */
    const char *unix_socket_dir;
    const char *unix_socket_group;

    /*
     * At most one of these. A reference is taken of |tls|. With |auto_mtls| a gp_tls is made for
     * this launch; this excludes reattaching.
     */
    gp_tls *tls;
    bool auto_mtls;

    /*
     * The checksum that the executable must have. |checksum_hash| is as for gp_checksum_size();
     * NULL: there is no check. Excludes reattaching. A file of more than |checksum_max_size| bytes
     * is not read; 0: there is no limit.
     */
    const char *checksum_hash;
    const unsigned char *checksum;
    size_t checksum_len;
    uint64_t checksum_max_size;

    bool multiplex; /* everything goes over one connection, which the plugin must support */

    /* For all channels to the plugin, brokered ones included. A reference is taken. NULL: none. */
    gp_channel_args *channel_args;

    /* To reattach, set at least the network and the address. */
    const char *reattach_network;
    const char *reattach_address;
    const char *reattach_protocol; /* "grpc" or "netrpc"; NULL or "": "netrpc" */
    int reattach_version;
    int reattach_pid;                       /* -1: unknown */
    bool reattach_test;                     /* gp_client_kill() does not end the process */
    unsigned long long reattach_start_time; /* as gp_client_start_time(); 0: unknown */

    gp_log_sink log;        /* for the plugin's stderr, which is discarded if |deliver| is NULL */
    size_t log_buffer_size; /* bytes of a line; longer lines are passed on in pieces; 0: 64 KiB */
    gp_output_sink output;  /* for the plugin's output after the handshake */

    gp_exit_sink exit;

    bool managed; /* gp_client_kill_all(true, ...) kills it too */
} gp_client_options;

/*
 * Make a client; nothing is started. The client owns the three sinks and the runner from here on;
 * if this fails, they have been released.
 *
 * Returns: 0, GP_EINVAL, GP_ENOMEM or GP_EFORKED.
 */
int gp_client_new(gp_client **out, const gp_client_options *options, gp_error *err);

/*
 * Launch or join the plugin and wait for its handshake. This happens once: later calls wait for the
 * first one and report its outcome. On failure the process has been killed and reaped before this
 * returns, and the message begins with the plugin's name. GP_EHANDSHAKE and GP_EVERSION carry the
 * line as detail, GP_EEXITED and GP_ESTARTTIMEOUT the tail of the plugin's stderr, GP_ETLS one of
 * the words of gp/tls.h, GP_ECHECKSUM "HASH EXPECTED FOUND". With TLS the connection has been made
 * when this returns.
 *
 * Returns: 0, or GP_ESTART, GP_EEXITED, GP_ESTARTTIMEOUT, GP_EHANDSHAKE, GP_EVERSION, GP_EREATTACH,
 * GP_ETLS, GP_ECHECKSUM, GP_ECLOSED (killed before or meanwhile), GP_EFORKED, GP_EUSER.
 */
int gp_client_start(gp_client *client, const gp_interrupt *interrupt, gp_error *err);

/* Where the plugin listens. Borrowed. NULL before a successful start. */
const gp_endpoint *gp_client_endpoint(gp_client *client);

/*
 * The channel to the plugin. Borrowed: take a reference to keep it. NULL before a successful start,
 * and for a plugin that speaks net/rpc.
 */
gp_channel *gp_client_channel(gp_client *client);

/*
 * The broker, which makes further connections to the plugin and from it. Borrowed, as
 * gp_client_channel().
 */
gp_broker *gp_client_broker(gp_client *client);

/* As gp_client_broker(), of a plugin that speaks net/rpc. NULL for one that speaks gRPC. */
gp_mux_broker *gp_client_mux_broker(gp_client *client);

/*
 * Have a plugin that speaks net/rpc make an implementation of what it calls |name|. |*out| calls
 * it, by the service "Plugin". |limits| (NULL: defaults) are for replies. Blocks.
 *
 * Returns: 0; GP_ESERVER with the plugin's error; GP_EBROKER; GP_ECLOSED if the plugin does not
 * run; GP_ETIMEOUT, GP_EINVAL (the plugin speaks gRPC), GP_EGOB, GP_EUSER, GP_ENOMEM or GP_EFORKED.
 */
int gp_client_dispense(gp_client *client, const char *name, const gp_gob_limits *limits,
                       int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                       gp_error *err);

/*
 * Ask the plugin whether it is healthy. Returns: 0, GP_ERPC with the reason, GP_ECLOSED or
 * GP_EUSER.
 */
int gp_client_ping(gp_client *client, int64_t timeout_ms, const gp_interrupt *interrupt,
                   gp_error *err);

/*
 * Shut the plugin down: ask it to exit, wait up to |kill_timeout_ms| until it has, then send
 * SIGKILL and reap it. Then wait up to 5 s until its log and its output have been delivered.
 * Idempotent; a second caller waits for the first one. If it is called before the start, every
 * later start fails. After an interrupt the plugin is killed at once. When called from an interrupt
 * of its own start or kill, it cannot wait for that: it makes the start or kill end soon, and
 * returns. A runner that is just starting the process has 5 s to return; if it returns later, the
 * process is killed then.
 *
 * Returns: 0, or GP_EUSER after the process has been killed all the same.
 */
int gp_client_kill(gp_client *client, const gp_interrupt *interrupt);

/*
 * Whether the plugin was reached and is gone: it has exited, or gp_client_kill() was called (which
 * does not end a process that was joined for a test). False before the start. True at once after a
 * call that has failed because the plugin died: for that, this may wait some milliseconds for a
 * process that is just exiting. No lock is held meanwhile.
 */
bool gp_client_exited(gp_client *client);

/*
 * The same after a call over net/rpc has failed because the connection has ended: a plugin may
 * close it before it exits. Waits up to a second, but not again if the plugin has gone on running.
 */
bool gp_client_await_exit(gp_client *client, const gp_interrupt *interrupt);

/*
 * The exit status of a plugin that has exited: -N for signal N, GP_STATUS_UNKNOWN if it is unknown.
 */
int gp_client_exit_status(gp_client *client);

/* How it has ended, for messages: "exited with status 7". Returns |out|. */
enum { GP_EXIT_TEXT = 96 };
const char *gp_client_describe_exit(gp_client *client, char out[GP_EXIT_TEXT]);

/* The last of what it has written to stderr; "" if this process does not read that. */
enum { GP_CLIENT_STDERR = 4096 + 1 };
const char *gp_client_stderr(gp_client *client, char out[GP_CLIENT_STDERR]);

/* The process id; -1 before start or when unknown. */
int gp_client_pid(gp_client *client);

/*
 * When the process started, in a unit of the operating system. Together with the pid it identifies
 * one process. 0 before the start or when unknown.
 */
unsigned long long gp_client_start_time(gp_client *client);

/*
 * Kill the plugin at once if it was launched and still runs, and free the client. A plugin that was
 * joined or detached goes on running. No other function may be running on |client|. Does nothing in
 * a forked child.
 */
void gp_client_free(gp_client *client);

/*
 * Kill many clients in parallel, as gp_client_kill() does: only the managed ones, or (at the end of
 * the process) also those that were launched and not detached, after cancelling their calls.
 * Blocks. After an interrupt all of them are killed at once.
 *
 * Returns: 0, GP_EFORKED or GP_EUSER.
 */
int gp_client_kill_all(bool managed_only, const gp_interrupt *interrupt);

#endif
