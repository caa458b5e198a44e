/*
 * Layer: services. What a gp_stdio is, for the files that implement it:
 *
 *     stdio.c          the pipes, the queue of consumers, and the end; writes all fields
 *     stdio_stream.c   consumers that are calls of StreamStdio, of hosts
 *     stdio_reader.c   consumers for servers that are not ours
 */
#ifndef GP_SERVICES_STDIO_STATE_H
#define GP_SERVICES_STDIO_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/list.h"
#include "gp/lock.h"
#include "gp/stdio.h"
#include "os/reactor.h"
#include "os/redirect.h"

enum {
    GP__STDIO_HEADER = 8,        /* bytes that precede the output in a message, at most */
    GP__STDIO_CHUNK = 64 * 1024, /* the default capacity of a pipe */
};

/* Standard output or standard error. Its fields are guarded by the lock of |stdio|. */
typedef struct gp__stdio_source {
    gp_stdio *stdio;  /* borrowed: contains this */
    gp__watch *watch; /* owned; written before its first callback */
    bool watched;     /* the watch is enabled */
    bool closed;      /* no process has the writing end any more */
} gp__stdio_source;

typedef enum gp__stdio_phase {
    GP__STDIO_NEW,
    GP__STDIO_OPEN,
    GP__STDIO_ENDING,
    GP__STDIO_ENDED,
} gp__stdio_phase;

struct gp_stdio {
    atomic_int refs;
    gp_mutex lock; /* taken before the locks of the reactor, of calls and of the poller */
    gp_cond changed;
    gp__stdio_phase phase GP_GUARDED_BY(&lock);
    gp__redirect redirect GP_GUARDED_BY(&lock);
    gp__stdio_source sources[2] GP_GUARDED_BY(&lock);
    int next_source GP_GUARDED_BY(&lock);   /* the index of the source that is read first */
    gp_list consumers GP_GUARDED_BY(&lock); /* each with a reference; the first gets the output */
    bool has_had_consumer GP_GUARDED_BY(&lock);
    int streams GP_GUARDED_BY(&lock); /* calls of StreamStdio that are not over */
    int64_t ending_since GP_GUARDED_BY(&lock);
    int64_t ending_until GP_GUARDED_BY(&lock);
    gp__watch *timer GP_GUARDED_BY(&lock);  /* owned; while ENDING */
    int64_t last_read GP_GUARDED_BY(&lock); /* when output was last read, or ENDING began */

    /* The message that was read last. Its length is 0 once a consumer has taken it. */
    gp_bytes pending GP_GUARDED_BY(&lock);
    int pending_source GP_GUARDED_BY(&lock);
    size_t pending_size GP_GUARDED_BY(&lock); /* bytes of output, which are at its end */
    unsigned char buffer[GP__STDIO_HEADER + GP__STDIO_CHUNK] GP_GUARDED_BY(&lock);
};

/*
 * A reader of the output. Its fields are guarded by the lock of |stdio|, which is held when |give|
 * is called, and not when |end| is.
 */
typedef struct gp__stdio_consumer gp__stdio_consumer;
struct gp__stdio_consumer {
    gp_link link;    /* among the consumers of |stdio|, with a reference */
    gp_stdio *stdio; /* shared: ref */
    int refs;
    bool busy; /* it is not done with the message that it was given */
    /*
     * Take a message, which stays valid until |busy| is reset. Returns false if the consumer can
     * take no more.
     */
    bool (*give)(gp__stdio_consumer *self, gp_bytes message);
    /* No message will follow. |busy|: the consumer was not done with the last one. */
    void (*end)(gp__stdio_consumer *self, bool busy);
    void (*free)(gp__stdio_consumer *self);
};

/* Drop a reference. Takes the lock. */
void gp__stdio_consumer_unref(gp__stdio_consumer *self);

/* Append |self| to the list of consumers. */
void gp__stdio_append_locked(gp_stdio *stdio, gp__stdio_consumer *self) GP_REQUIRES(&stdio->lock);

/*
 * Remove |self| from the list of consumers, if it is there, and reset |busy|. The caller must have
 * a reference of its own.
 */
void gp__stdio_remove_locked(gp_stdio *stdio, gp__stdio_consumer *self) GP_REQUIRES(&stdio->lock);

/* A call of StreamStdio has begun (1) or is over (-1). */
void gp__stdio_count_stream_locked(gp_stdio *stdio, int by) GP_REQUIRES(&stdio->lock);

/*
 * To be called after each change: give output to the first consumer, and end everything if it is
 * time. Takes the lock, and calls |end| of consumers without it.
 */
void gp__stdio_update(gp_stdio *stdio);

#endif
