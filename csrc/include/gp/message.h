/*
 * Layer: public. What travels in calls: bytes, metadata, received messages, and the status at the
 * end.
 */
#ifndef GP_MESSAGE_H
#define GP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes. */
typedef struct gp_bytes {
    const void *data;
    size_t len;
} gp_bytes;

/* One header. Keys are lower case; a key that ends in "-bin" carries any bytes, others ASCII. */
typedef struct gp_metadatum {
    gp_bytes key;
    gp_bytes value;
} gp_metadatum;

/* Borrowed headers, in order; keys may repeat. */
typedef struct gp_metadata {
    const gp_metadatum *items;
    size_t count;
} gp_metadata;

/* A received message. Owned by the code that has received it. */
typedef struct gp_message gp_message;

size_t gp_message_size(const gp_message *message);

/* Copy the whole message to |out|, which has room for gp_message_size() bytes. */
void gp_message_copy(const gp_message *message, void *out);

void gp_message_free(gp_message *message);

/*
 * Completion callbacks: an operation has completed, a message has been sent, a message has arrived
 * (NULL: there will be no more; the callee owns it). Each is called once, on the polling thread,
 * with no lock held. It must not block, and may start the next operation.
 */
typedef void gp_then(void *ctx);
typedef void gp_sent(void *ctx, bool ok); /* not ok: the call is over */
typedef void gp_received(void *ctx, gp_message *message);

/* gRPC's compression algorithms. DEFAULT is the one that the channel or the server has chosen. */
enum { GP_COMPRESS_DEFAULT = -1, GP_COMPRESS_NONE, GP_COMPRESS_DEFLATE, GP_COMPRESS_GZIP };

/* Whether gRPC can send this key, or this value with a key that does not end in "-bin". */
int gp_metadata_key_valid(gp_bytes key);
int gp_metadata_value_valid(gp_bytes value);

#endif
