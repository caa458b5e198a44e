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
 * One record. All pointers lead into the batch. |message| may be any bytes: decode with
 * replacement. A line that is not an hclog entry is its own message, at the level that its form
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
    const char *raw; /* the bytes as read; NULL unless the sink's |want_raw| is set */
    size_t raw_len;
    const gp_log_record *records;
    size_t records_count;
    bool skipped; /* lines were left out because their level is too low */
} gp_log_batch;

/*
 * Where batches go. |deliver| is called on the process's one delivery thread, in order, with no
 * lock held. It may block. That delays the logs and the output of all plugins, which share the
 * thread, and nothing else; once about 1 MiB waits for delivery, the plugin's pipe fills up.
 *
 * |deliver| may call any function of the library, gp_client_kill() and gp_client_free() included.
 */
typedef struct gp_log_sink {
    /* Returns the lowest level wanted from now on (more than GP_ERROR: none, nothing is parsed). */
    int (*deliver)(void *ctx, const gp_log_batch *batch);
    /*
     * Called last: on the delivery thread, or by a function that makes or frees what has the sink.
     * May be NULL.
     */
    void (*release)(void *ctx);
    void *ctx;
    bool want_raw;
    int level; /* the lowest level wanted at first */
} gp_log_sink;

/*
 * End the threads that handle logs: first the one that reads the plugins' pipes, then, once its
 * queue is empty, the delivery thread. For process exit, after gp_client_kill_all(). What arrives
 * later is discarded. gp_client_start() starts the threads anew. Not to be called by |deliver|.
 * Blocks, but not for a |deliver| that does not return within 5 s: its thread then goes on.
 */
void gp_log_shutdown(void);

/* A record that a plugin logs. */
typedef struct gp_hclog_entry {
    int level; /* on Python's scale; a level between two of ours counts as the lower one */
    const char *message;
    size_t message_len;
    const char *module; /* NULL leaves it out */
    size_t module_len;
    int64_t timestamp_us;       /* microseconds since the epoch */
    const gp_log_field *fields; /* those with keys that hclog reserves are left out */
    size_t fields_count;
} gp_hclog_entry;

/*
 * Write |entry| as hclog's JSON: one line with its newline, without a terminating zero. Keys,
 * message and module may be any bytes; invalid UTF-8 becomes U+FFFD.
 *
 * Returns: the length of the whole line. If that is more than |size|, |out| has its beginning.
 * Threads: any.
 */
size_t gp_hclog_format(char *out, size_t size, const gp_hclog_entry *entry);

#endif
