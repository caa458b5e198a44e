/*
 * Layer: netrpc. The messages of net/rpc: a head, which says which call it belongs to, and then the
 * argument or the reply. Each direction of a stream is one stream of gob.
 *
 * Threads: guarded by the lock of the transport. Values that have been taken out may be decoded by
 * any thread.
 */
#ifndef GP_NETRPC_FRAMING_H
#define GP_NETRPC_FRAMING_H

#include <stdint.h>

#include "base/buf.h"
#include "gp/gob.h"
#include "netrpc/transport.h"

/* Go's rpc.Request. */
typedef struct gp__netrpc_request_head {
    gp_gob_text method; /* "Service.Method" */
    uint64_t seq;
} gp__netrpc_request_head;

/* Go's rpc.Response. With an |error|, what follows is an empty struct. */
typedef struct gp__netrpc_response_head {
    gp_gob_text method;
    uint64_t seq;
    gp_gob_text error;
} gp__netrpc_response_head;

/* One end of a stream. */
typedef struct gp__netrpc_framing {
    gp_gob_encoder *encoder; /* owned */
    gp_gob_decoder *decoder; /* owned reference */
    gp_gob_output *head;     /* owned: reused for each head that is sent */
    gp__buf buffer;          /* reused for each message that is sent */
} gp__netrpc_framing;

/* |limits| may be NULL. Returns: 0 or GP_ENOMEM; then nothing is to be released. */
int gp__netrpc_framing_init(gp__netrpc_framing *framing, const gp_gob_limits *limits,
                            gp_error *err);
void gp__netrpc_framing_release(gp__netrpc_framing *framing);

/*
 * Send a head and the value |body|; for a response with an error, |body| is NULL.
 *
 * Returns: 0; GP_ECLOSED; or GP_ENOMEM, after which the stream is of no use, since a part of the
 * message may have been sent.
 */
int gp__netrpc_framing_send_request_locked(gp__netrpc_framing *framing,
                                           gp__transport_stream *stream,
                                           const gp__netrpc_request_head *head, gp_gob_output *body,
                                           gp_error *err);
int gp__netrpc_framing_send_response_locked(gp__netrpc_framing *framing,
                                            gp__transport_stream *stream,
                                            const gp__netrpc_response_head *head,
                                            gp_gob_output *body, gp_error *err);

/*
 * Read a head out of |message|, which the texts of |out| are borrowed from. Returns 0, GP_EGOB or
 * GP_ENOMEM.
 */
int gp__netrpc_framing_read_request(gp__netrpc_framing *framing, const gp_gob_message *message,
                                    gp__netrpc_request_head *out, gp_error *err);
int gp__netrpc_framing_read_response(gp__netrpc_framing *framing, const gp_gob_message *message,
                                     gp__netrpc_response_head *out, gp_error *err);

#endif
