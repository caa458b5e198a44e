/*
 * Layer: public. Log records of plugins, on their way to the host's logging.
 */
#ifndef GP_LOG_H
#define GP_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"

/* Numbered as Python's logging, with hclog's TRACE below DEBUG. */
enum { GP_TRACE = 5, GP_DEBUG = 10, GP_INFO = 20, GP_WARN = 30, GP_ERROR = 40 };

/* One structured key/value of an hclog entry. |json| is the value as JSON text (UTF-8). */
typedef struct gp_log_field {
    const char *key;
    size_t key_len;
    const char *json;
    size_t json_len;
} gp_log_field;

/*
 * One record. Everything points into the batch. |message| may be any bytes: decode with
 * replacement. A line that is no hclog entry is its own message, at the level that its look
 * suggests.
 */
typedef struct gp_log_record {
    int level;
    const char *message;
    size_t message_len;
    const char *module; /* hclog's @module; NULL if absent */
    size_t module_len;
    double created; /* seconds since the epoch from @timestamp; 0 if absent */
    const gp_log_field *fields;
    size_t fields_count;
} gp_log_record;

/* A run of output in the order it was written. */
typedef struct gp_log_batch {
    const char *raw; /* the bytes as read; NULL unless the sink wants them */
    size_t raw_len;
    const gp_log_record *records;
    size_t records_count;
    bool skipped; /* lines were left out because of the level */
} gp_log_batch;

/*
 * Where batches go. |deliver| is called on the process's one delivery thread, in order, with no
 * lock held. It may block: that delays the logs of all plugins, for they share that thread, but no
 * other work of theirs; the plugin itself meets a full pipe once about 1 MiB waits for delivery.
 *
 * |deliver| may call any function of the library, gp_client_kill() and gp_client_free() included.
 */
typedef struct gp_log_sink {
    /* Returns the lowest level wanted from now on (more than GP_ERROR: none, nothing is parsed). */
    int (*deliver)(void *ctx, const gp_log_batch *batch);
    /* No more calls follow. On the delivery thread, or in new/free. May be NULL. */
    void (*release)(void *ctx);
    void *ctx;
    bool want_raw;
    int level; /* the lowest level wanted at first */
} gp_log_sink;

/*
 * End the threads behind the logs: first the one that reads the plugins' pipes, then, once its
 * queue is empty, the delivery thread. For process exit, after gp_client_kill_all(). What arrives
 * later is discarded. A gp_client_start() after it starts them anew. Not from within |deliver|.
 * Blocks, but not on a |deliver| that does not return within 5 s: that thread is left behind.
 */
void gp_log_shutdown(void);

/* One line of a Python plugin's own logging. */
typedef struct gp_hclog_entry {
    int level; /* on Python's scale; anything in between counts as the next lower of ours */
    const char *message;
    size_t message_len;
    const char *module; /* NULL leaves it out */
    size_t module_len;
    int64_t timestamp_us;       /* microseconds since the epoch */
    const gp_log_field *fields; /* written as they are, but for keys that hclog reserves */
    size_t fields_count;
} gp_hclog_entry;

/*
 * Write |entry| as hclog's JSON: one line with its newline, not terminated by a zero. Any bytes are
 * fine in keys, message and module; invalid UTF-8 becomes U+FFFD.
 *
 * Returns: the length of the whole line. If that is more than |size|, what is in |out| is cut off.
 * Threads: any.
 */
size_t gp_hclog_format(char *out, size_t size, const gp_hclog_entry *entry);

#endif
