/*
 * Layer: netrpc. One connection: a stream of bytes (os/stream.h: a socket, or TLS over one), and
 * over it either a yamux session with any number of streams, or nothing; then the connection is the
 * only stream.
 *
 * A thread that waits for something also reads. There is one driver role per transport. A thread in
 * gp__transport_wait_locked() takes it if it is free, waits for the connection to become readable,
 * and dispatches what has come to all streams, whose users open the gates of the threads that wait
 * for it. Once its own gate is open, it gives the role up, and one of the waiting threads is woken
 * to take it. So a call on an idle connection costs one write, one poll and one read, and no change
 * of threads. When no thread waits, the reactor dispatches: at once if something is urgent, else
 * once no thread has driven for a tick.
 *
 *               a thread waits                  its gate opens
 *      (free) ------------------> (driven) ---------------------> (free)
 *         \                                                          /
 *          '--- free for a tick, or something is urgent: reactor ---'
 *
 * On a serving side, workers drive (netrpc/workers.h).
 *
 * Threads: any. All state of a connection is guarded by one lock: the transport's, its streams',
 * and that of their users. Functions that end in _locked need it, and callbacks are called with it
 * held. The lock is held for no longer than system calls take that do not block. Locks of the
 * reactor and of the workers' pool may be taken while it is held, and no others.
 *
 * In a forked child a transport cannot be used: gp_runtime_forked() is true there, and the lock may
 * be held by a thread that does not exist. Check before taking the lock; gp__transport_unref() is
 * safe.
 */
#ifndef GP_NETRPC_TRANSPORT_H
#define GP_NETRPC_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fifo.h"
#include "base/task.h"
#include "base/thread.h"
#include "gp/error.h"
#include "gp/list.h"
#include "gp/lock.h"
#include "mux/yamux.h"
#include "os/reactor.h"
#include "os/stream.h"

typedef struct gp__transport gp__transport;
typedef struct gp__transport_stream gp__transport_stream;
typedef struct gp__transport_waiter gp__transport_waiter; /* in transport_driver.c */

/*
 * What threads wait for. Zeroed memory is a closed gate. Guarded by the transport's lock. A gate
 * that a thread waits for by gp_interrupt.wait must not be on that thread's stack.
 */
typedef struct gp__transport_gate {
    bool open;
    gp__transport_waiter *waiters; /* borrowed: the threads that wait for it, the last one first */
} gp__transport_gate;

/*
 * Callbacks of a stream. They are called with the lock held, on whatever thread dispatches; they
 * must not block or enter Python. They may call any _locked function except
 * gp__transport_wait_locked(), and may release the stream. What they write is sent when all that
 * has come is dispatched.
 */
typedef struct gp__transport_stream_ops {
    /*
     * |bytes| are all that have come and are not used yet. Returns how many of them the user has
     * used or copied; the other side may send as many again. The transport stores the others, and
     * passes them again, together with those that follow, when more come, by
     * gp__transport_stream_resume_locked(), or to the next user. A stream whose user uses nothing
     * stores no more than a window, and then blocks the sender.
     */
    size_t (*received)(void *ctx, const unsigned char *bytes, size_t len);
    /*
     * No more data will come; called once. |why->code| is 0 if the other side has ended its
     * direction, and else why the stream or the connection is over: then nothing can be written
     * either. Stored data can still be read.
     */
    void (*ended)(void *ctx, const gp_error *why);
    /*
     * gp__transport_stream_write_locked() has not taken everything, and may be called again; or the
     * last of what gp__transport_stream_send_locked() has stored is on its way. May be NULL.
     */
    void (*writable)(void *ctx);
} gp__transport_stream_ops;

typedef struct gp__transport_options {
    bool raw;             /* there is no yamux: the connection is the only stream */
    bool client;          /* of yamux: this side has connected */
    uint32_t window;      /* bytes that a stream may receive unread; 0: 256 KiB */
    uint32_t max_streams; /* that the other side may have open at one time; 0: 1024 */
    /*
     * Nanoseconds. 0: those of go's yamux; negative: none. |keepalive| is from ping to ping, and
     * |timeout| how long an answer may take, and how long the connection may take no bytes. Neither
     * is used with |raw|.
     */
    int64_t keepalive;
    int64_t timeout;
    /*
     * The other side has opened |stream|: call gp__transport_stream_use_locked() or release it,
     * before returning. Called as a stream's callbacks are. NULL: such streams are refused.
     */
    void (*accept)(void *ctx, gp__transport_stream *stream);
    /*
     * The connection is over, after all streams have been told. |why->code| is never 0. Called
     * once, as a stream's callbacks are; not because of gp__transport_unref(). May be NULL.
     */
    void (*over)(void *ctx, const gp_error *why);
    void *ctx; /* borrowed: until |over| has been called, or the last reference is dropped */
} gp__transport_options;

/* ---- The state, which is here for the lock's sake; each part is written by one file alone ---- */

/* Who drives (transport_driver.c). */
typedef struct gp__transport_role {
    bool driven;      /* a thread has the driver role */
    bool watching;    /* the reactor watches the connection */
    bool ticking;     /* the timer |ticks| is enabled */
    unsigned awaited; /* GP__STREAM_ flags that the driver polls for, or the reactor watches for */
    int urgent;       /* things under way that no thread waits for */
    bool driven_anew; /* a thread has begun to drive since the last tick */
    gp_list waiters;  /* threads that sleep and whose gates are closed, oldest first */
    unsigned long woken; /* times that a sleeping thread's gate was opened */
    gp_list deferred;    /* tasks of gp__transport_defer_locked() */
    int wakeup[2];       /* owned; wakes the driver */
    gp__watch *watch;    /* owned; of the connection */
    gp__watch *ticks;    /* owned */
} gp__transport_role;

/* What workers do for it (workers.c). */
typedef struct gp__transport_service {
    gp_list turns;   /* queues with a task that may run */
    gp_list running; /* tasks that run */
    int attentive;   /* workers that will look for tasks soon */
    bool driving;    /* a worker has the driver role */
    gp_link wanting; /* in the pool's list; guarded by the pool's lock, as is |wanted| */
    int wanted;      /* workers that were woken for this transport and have not arrived */
} gp__transport_service;

/* What is sent and received (transport.c). */
typedef struct gp__transport_channel {
    gp__stream *stream;   /* owned; NULL: closed */
    gp__yamux *session;   /* owned; NULL: raw, or over */
    gp__fifo raw_out;     /* raw: bytes to be sent */
    unsigned char *input; /* owned: what has been read last */
    gp_error why;         /* why the connection is over; code 0: it is not */
    gp_error unsendable;  /* why it takes no bytes any more; code 0: it does */
    int64_t stuck_since;  /* when it last took bytes, although there are more; 0: there are none */
    bool dispatching;     /* the thread that holds the lock dispatches */
    bool flushing;        /* the thread that holds the lock sends output */
    bool unflushed;       /* the stream has stored bytes that are to be sent */
    bool raw_shut;        /* raw: this side's direction ends once everything is sent */
    gp__watch *keepalive; /* owned; a timer. NULL: raw, or none */
    gp__transport_gate drained; /* opened when everything is sent, if a thread waits for it */
} gp__transport_channel;

/* Its streams (transport_stream.c). */
typedef struct gp__transport_streams {
    gp_list all; /* both kinds below: those that users have, and released ones with output left */
    gp_list waiting;           /* those that wait for room in the output, oldest first */
    gp__transport_stream *raw; /* of a raw transport, in |all|; NULL: not opened, or released */
    bool raw_opened;
} gp__transport_streams;

struct gp__transport {
    gp_mutex lock; /* see the top of this file */
    atomic_int refs;
    gp__transport_options options;
    gp__transport_role role GP_GUARDED_BY(&lock);
    gp__transport_service service GP_GUARDED_BY(&lock);
    gp__transport_channel channel GP_GUARDED_BY(&lock);
    gp__transport_streams streams GP_GUARDED_BY(&lock);
};

struct gp__transport_stream {
    gp__transport *transport;            /* borrowed: outlives us */
    const gp__transport_stream_ops *ops; /* NULL: it has no user (any more) */
    void *ctx;                           /* borrowed: the user's */
    gp__yamux_stream *mux;               /* owned; NULL: raw, or over */
    gp_link link;                        /* in the transport's |all| */
    gp_link waiting;                     /* in the transport's |waiting| */
    gp__fifo in;                         /* data that the user has not used */
    gp__fifo out;      /* data of gp__transport_stream_send_locked() that waits for room */
    gp_error why;      /* why it is over, or code 0 */
    bool *freed;       /* borrowed; NULL: none of its callbacks runs. Set when it is freed */
    bool again;        /* the user has changed, or asks for the data again, in |received| */
    bool released;     /* by its user; what is left in |out| is still to be sent */
    bool ended;        /* no more data will come */
    bool end_reported; /* the present user knows of that */
    bool shut;         /* no more will be written */
    bool blocked;      /* |writable| is due when there is room */
};

/* ---- Opening, closing (transport.c) ---- */

/*
 * Use |stream|, which the transport owns; it is closed if this fails. If it has a handshake, as TLS
 * has, this begins it. |*out| is set, with one reference, before the first callback.
 *
 * Returns: 0, GP_ENOMEM, GP_EOS or GP_EFORKED.
 */
int gp__transport_open(gp__transport **out, gp__stream *stream,
                       const gp__transport_options *options, gp_error *err);

gp__transport *gp__transport_ref(gp__transport *transport);

/*
 * Drop a reference; the last one ends the connection at once. All streams have been released by
 * then. Not with the lock held. NULL is fine.
 */
void gp__transport_unref(gp__transport *transport);

/*
 * End the connection: once everything that was written is sent, but after |linger_ms| at the
 * latest. All streams end with |why|, or with "this side has closed the connection" if it is NULL.
 * Idempotent. From callbacks, and where waiting is not allowed, use gp__transport_end_locked().
 */
void gp__transport_close(gp__transport *transport, const gp_error *why, int64_t linger_ms)
    GP_EXCLUDES(&transport->lock);

/* Wait until everything that was written is sent, at most |timeout_ms|. Not in callbacks. */
void gp__transport_drain(gp__transport *transport, int64_t timeout_ms)
    GP_EXCLUDES(&transport->lock);

/* End the connection and all streams now, for the reason |why|, whose code is not 0. Idempotent. */
void gp__transport_end_locked(gp__transport *transport, const gp_error *why)
    GP_REQUIRES(&transport->lock);

/* Why the connection is over; NULL while it is not. Borrowed from the transport. */
const gp_error *gp__transport_why_locked(const gp__transport *transport)
    GP_REQUIRES(&transport->lock);

/*
 * ---- Streams (transport_stream.c) ----
 *
 * These functions need the lock of the stream's transport, although those that take a stream do not
 * say so to the analysis: it cannot know that |stream->transport| is the caller's.
 */

/*
 * Open a stream; with |raw| there is only one, and it is the connection. It belongs to the caller
 * until it is released. No callback is called before this returns.
 *
 * Returns: 0, GP_ECLOSED, GP_ENOMEM, or GP_EINVAL if |raw| and it has been opened before.
 */
int gp__transport_stream_open_locked(gp__transport_stream **out, gp__transport *transport,
                                     const gp__transport_stream_ops *ops, void *ctx, gp_error *err)
    GP_REQUIRES(&transport->lock);

/*
 * Give |stream| a new user. |ops| is NULL if it has none for a moment; what comes meanwhile is
 * stored. If there is unused data, or the stream has ended, the new user is told before this
 * returns, as it is by gp__transport_stream_resume_locked().
 */
void gp__transport_stream_use_locked(gp__transport_stream *stream,
                                     const gp__transport_stream_ops *ops, void *ctx);

/* Pass the unused data, if there is any, to |received| again. */
void gp__transport_stream_resume_locked(gp__transport_stream *stream);

/* How many bytes have come and are not used. */
size_t gp__transport_stream_unused_locked(const gp__transport_stream *stream);

/* Take at most |size| bytes out of the unused data. Returns how many there were. */
size_t gp__transport_stream_read_locked(gp__transport_stream *stream, void *bytes, size_t size);

/*
 * Write what there is room for now. gp__transport_flush_locked() sends it.
 *
 * Returns: how many bytes were taken; if they are fewer than |len|, |writable| will be called.
 * GP_ECLOSED if the stream is over or has been shut down, with the reason in |err|; GP_ENOMEM.
 */
ptrdiff_t gp__transport_stream_write_locked(gp__transport_stream *stream, const void *bytes,
                                            size_t len, gp_error *err);

/*
 * Write all of |len| bytes: what there is no room for is stored and sent later. Bounding what is
 * stored is up to the user; see gp__transport_stream_stored_locked(). Returns 0, GP_ECLOSED or
 * GP_ENOMEM; in the last case part of it may have been sent, and the stream is of no use.
 */
int gp__transport_stream_send_locked(gp__transport_stream *stream, const void *bytes, size_t len,
                                     gp_error *err);

/* How many bytes gp__transport_stream_send_locked() has stored that have found no room yet. */
size_t gp__transport_stream_stored_locked(const gp__transport_stream *stream);

/* Nothing more will be written. The other side is told after what is stored has been sent. */
void gp__transport_stream_shutdown_locked(gp__transport_stream *stream);

/*
 * The user is done with |stream| and must not use it any more; no callback follows. If it has been
 * shut down, what is stored is still sent. Otherwise the stream is reset. The only stream of a raw
 * transport is not reset: gp__transport_close() ends it. NULL is fine.
 */
void gp__transport_stream_release_locked(gp__transport_stream *stream);

/*
 * Send what has been written, as far as the connection takes it; the rest follows by itself. Needed
 * after writing, reading, shutting down and releasing, except in callbacks. May call the callbacks
 * of any stream. If the connection is lost, the streams are told so later.
 */
void gp__transport_flush_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* ---- Waiting (transport_driver.c) ---- */

/*
 * Wait for |gate|, driving if no other thread does. Releases and re-acquires the lock meanwhile.
 * When the connection ends, the users of its streams have to open the gates of those who wait.
 *
 * Returns: 0 when the gate is, or was, open; GP_ETIMEOUT at |deadline|; GP_EUSER.
 */
int gp__transport_wait_locked(gp__transport *transport, gp__transport_gate *gate, int64_t deadline,
                              const gp_interrupt *interrupt) GP_REQUIRES(&transport->lock);

/*
 * Open |gate|: the threads that wait for it return, even if it is closed again before they run. To
 * close it, clear |open|.
 */
void gp__transport_gate_open_locked(gp__transport *transport, gp__transport_gate *gate)
    GP_REQUIRES(&transport->lock);

/*
 * Count something under way that no thread waits for: 1 when it begins, -1 when it ends. While
 * there is any, the reactor dispatches at once when no thread drives.
 */
void gp__transport_urgent_locked(gp__transport *transport, int change)
    GP_REQUIRES(&transport->lock);

/*
 * Have |task| run with no lock held, soon, on the thread that dispatches or on the reactor's. It
 * must neither block nor enter Python.
 */
void gp__transport_defer_locked(gp__transport *transport, gp__task *task)
    GP_REQUIRES(&transport->lock);

/* Run such tasks on this thread, without waiting for others to do so. */
void gp__transport_run_deferred(gp__transport *transport) GP_EXCLUDES(&transport->lock);

#endif
