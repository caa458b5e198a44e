/*
 * Layer: os. What a gp_stdio is, for the files that implement it:
 *
 *     os/stdio.c                 the pipes, the queue of consumers, and the end; writes all fields
 *     services/stdio_stream.c    consumers that are calls of StreamStdio, of hosts
 *     services/stdio_reader.c    consumers for servers that are not ours
 *     netrpc/stdio_consumer.c    consumers that are connections over net/rpc
 */
#ifndef GP_OS_STDIO_STATE_H
#define GP_OS_STDIO_STATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/list.h"
#include "gp/lock.h"
#include "gp/stdio.h"
#include "os/reactor.h"
#include "os/redirect.h"

enum {
    GP__STDIO_ROOM = 8,         /* bytes in front of a chunk that a consumer may write to */
    GP__STDIO_MOST = 64 * 1024, /* bytes of a chunk; the default capacity of a pipe */
};

/* Output that was read at once. GP__STDIO_ROOM bytes in front of it are the consumer's. */
typedef struct gp__stdio_chunk {
    int channel;          /* GP_STDOUT or GP_STDERR */
    unsigned char *bytes; /* borrowed: the gp_stdio's */
    size_t len;
} gp__stdio_chunk;

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
    gp_mutex lock; /* taken before the locks of the reactor and of what consumers send through */
    gp_cond changed;
    gp__stdio_phase phase GP_GUARDED_BY(&lock);
    gp__redirect redirect GP_GUARDED_BY(&lock);
    gp__stdio_source sources[2] GP_GUARDED_BY(&lock);
    int next_source GP_GUARDED_BY(&lock);   /* the index of the source that is read first */
    gp_list consumers GP_GUARDED_BY(&lock); /* each with a reference; the first gets the output */
    bool has_had_consumer GP_GUARDED_BY(&lock);
    int sending
        GP_GUARDED_BY(&lock); /* consumers that may not have sent all that they were given */
    int64_t ending_since GP_GUARDED_BY(&lock);
    int64_t ending_until GP_GUARDED_BY(&lock);
    gp__watch *timer GP_GUARDED_BY(&lock);  /* owned; while ENDING */
    int64_t last_read GP_GUARDED_BY(&lock); /* when output was last read, or ENDING began */

    gp_then *then GP_GUARDED_BY(&lock); /* called when ENDED; NULL: none, or called */
    void *then_ctx GP_GUARDED_BY(&lock);

    /* The chunk that was read last. Its length is 0 once a consumer has taken it. */
    gp__stdio_chunk pending GP_GUARDED_BY(&lock);
    unsigned char buffer[GP__STDIO_ROOM + GP__STDIO_MOST] GP_GUARDED_BY(&lock);
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
    bool busy; /* it is not done with the chunk that it was given */
    /*
     * Take a chunk, whose bytes stay valid until |busy| is reset. Returns false if the consumer can
     * take no more.
     */
    bool (*give)(gp__stdio_consumer *self, const gp__stdio_chunk *chunk);
    /* No chunk will follow. |busy|: the consumer was not done with the last one. */
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

/*
 * One more consumer (1) sends what it is given, so that gp_stdio_end() waits for it, or is sure to
 * have sent all of it (-1).
 */
void gp__stdio_count_sending_locked(gp_stdio *stdio, int by) GP_REQUIRES(&stdio->lock);

/*
 * Have |then|(|ctx|) called once, when the output has ended and so have all consumers: with no lock
 * held, on any thread; it must not block. At once if that is so already. One at a time.
 */
void gp__stdio_on_ended(gp_stdio *stdio, gp_then *then, void *ctx) GP_EXCLUDES(&stdio->lock);

/*
 * To be called after each change: give output to the first consumer, and end everything if it is
 * time. Takes the lock, and calls |end| of consumers without it.
 */
void gp__stdio_update(gp_stdio *stdio);

#endif
