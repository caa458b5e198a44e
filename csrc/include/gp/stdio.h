/*
 * Layer: public. The output of plugins once they serve (protocol: "Stdio sync"): the host's side,
 * which passes it on to the user's writers, and the plugin's side, which replaces standard output
 * and standard error.
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
 * lock held. As with logs (gp/log.h) it may block, and call any function of the library. That
 * delays the logs and the output of all plugins; once about 1 MiB waits for delivery, the plugin's
 * pipe fills up.
 */
typedef struct gp_output_sink {
    /* |channel| is GP_STDOUT or GP_STDERR. NULL: the output is read and discarded. */
    void (*deliver)(void *ctx, int channel, const char *bytes, size_t len);
    /*
     * Called last: on the delivery thread, the polling thread, or by a function that makes or frees
     * what has the sink. May be NULL.
     */
    void (*release)(void *ctx);
    void *ctx;
} gp_output_sink;

/* ---- Plugins ---- */

/*
 * The output of this process on its way to its consumers, such as hosts that call
 * StreamStdio (gp/services.h). The oldest consumer gets all of it, until it ends, and then the next
 * one. While there is none, nothing is
 * read; so a process that prints much blocks until its host reads.
 *
 *      new --open--> OPEN --finish--> ENDING --all has been read, or patience is over--> ENDED
 *
 * Functions may be called from any thread. In a forked child they do nothing.
 */
typedef struct gp_stdio gp_stdio;

int gp_stdio_new(gp_stdio **out, gp_error *err);
gp_stdio *gp_stdio_ref(gp_stdio *stdio);
void gp_stdio_unref(gp_stdio *stdio);

/*
 * Replace descriptors 1 and 2 of this process, then write |line|, the handshake, to the original
 * standard output. In that order, because a host that has read the handshake may cause output at
 * once.
 *
 * Returns: 0; or, with nothing changed, GP_EINVAL (a gp_stdio has replaced them already), GP_EOS or
 * GP_EFORKED.
 */
int gp_stdio_open(gp_stdio *stdio, gp_bytes line, gp_error *err);

/*
 * Restore the descriptors, and end the consumers once they have read what was written before. What
 * they do not read within |patience_ms| is written to the original descriptors, as far as that does
 * not block. Never blocks; idempotent, but a second call can shorten the patience.
 */
void gp_stdio_finish(gp_stdio *stdio, int64_t patience_ms);

/* Finish, and wait for the end. Returns: 0 or GP_EUSER. */
int gp_stdio_end(gp_stdio *stdio, int64_t patience_ms, const gp_interrupt *interrupt);

#endif
