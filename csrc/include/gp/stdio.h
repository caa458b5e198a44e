/*
 * Layer: public. What plugins print once they serve (protocol: "Stdio sync"): the host's writers,
 * and on the plugin's side standard output and standard error themselves.
 */
#ifndef GP_STDIO_H
#define GP_STDIO_H

#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/message.h"
#include "gp/runtime.h"

/* Numbered as on the wire. */
enum { GP_STDOUT = 1, GP_STDERR = 2 };

/* ---- Hosts ---- */

/*
 * Where output goes. |deliver| is called on the process's one delivery thread, in order, with no
 * lock held. As with logs (gp/log.h) it may block, and call any function of the library: it holds
 * up the logs and the output of all plugins meanwhile, and once about 1 MiB waits for it the plugin
 * meets a full pipe.
 */
typedef struct gp_output_sink {
    /* |channel| is GP_STDOUT or GP_STDERR. NULL: the output is read all the same, and discarded. */
    void (*deliver)(void *ctx, int channel, const char *bytes, size_t len);
    /*
     * No more calls follow. On the delivery thread, the polling thread, or in new/free. May be
     * NULL.
     */
    void (*release)(void *ctx);
    void *ctx;
} gp_output_sink;

/* ---- Plugins ---- */

/*
 * The output of this process on its way to whoever reads it: hosts that call StreamStdio (see
 * gp_server_add_stdio() in gp/services.h), or readers of a server that is not ours. One gets all of
 * it until it goes, then the next in line. Nothing is read while there is none, so that a process
 * that prints much waits for its host, as it does for one that reads slowly.
 *
 *      new --open--> OPEN --finish--> ENDING --all has been taken, or patience is over--> ENDED
 *
 * Functions may be called from any thread. In a forked child they do nothing.
 */
typedef struct gp_stdio gp_stdio;

int gp_stdio_new(gp_stdio **out, gp_error *err);
gp_stdio *gp_stdio_ref(gp_stdio *stdio);
void gp_stdio_unref(gp_stdio *stdio);

/*
 * Replace descriptors 1 and 2 of this process, then write |line| to what standard output was. In
 * that order, because whoever has read a handshake may have something printed at once.
 * Returns: 0; GP_EINVAL: they have been, by us or another; GP_EOS; GP_EFORKED. Nothing has changed
 * then.
 */
int gp_stdio_open(gp_stdio *stdio, gp_bytes line, gp_error *err);

/*
 * Give the descriptors back, have what was written before taken, and end the streams. What nobody
 * takes within |patience_ms| goes to where the descriptors lead now, as far as that takes it at
 * once. Never blocks; idempotent, but a second call can shorten the patience.
 */
void gp_stdio_finish(gp_stdio *stdio, int64_t patience_ms);

/* Finish, and wait for the end. Returns: 0 or GP_EUSER. */
int gp_stdio_end(gp_stdio *stdio, int64_t patience_ms, const gp_interrupt *interrupt);

/* One in line for the output, for servers that are not ours. */
typedef struct gp_stdio_reader gp_stdio_reader;

int gp_stdio_reader_new(gp_stdio_reader **out, gp_stdio *stdio, gp_error *err);

/*
 * Wait for the next message of the stream. One thread at a time.
 * Returns: 1 with |out| set until the next call; 0 at the end or once it was closed; GP_EUSER.
 */
int gp_stdio_reader_next(gp_stdio_reader *reader, gp_bytes *out, const gp_interrupt *interrupt);

/* Leave the line; whoever waits gets the end. Idempotent. */
void gp_stdio_reader_close(gp_stdio_reader *reader);

/* Nobody may be waiting. */
void gp_stdio_reader_free(gp_stdio_reader *reader);

#endif
