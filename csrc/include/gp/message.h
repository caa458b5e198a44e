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

/* A received message. Owned by whoever received it. */
typedef struct gp_message gp_message;

size_t gp_message_size(const gp_message *message);

/* Copy the whole message to |out|, which has room for gp_message_size() bytes. */
void gp_message_copy(const gp_message *message, void *out);

void gp_message_free(gp_message *message);

/*
 * How it is told that something has happened, that a message was sent, or that one is there (NULL:
 * the end of them), which the callee then owns. Once, on the polling thread, with no lock held.
 * Neither may block; both may ask for the next one.
 */
typedef void gp_then(void *ctx);
typedef void gp_sent(void *ctx, bool ok); /* not ok: the call is over */
typedef void gp_received(void *ctx, gp_message *message);

/* As gRPC's compression algorithms. DEFAULT is what the channel or the server does anyway. */
enum { GP_COMPRESS_DEFAULT = -1, GP_COMPRESS_NONE, GP_COMPRESS_DEFLATE, GP_COMPRESS_GZIP };

/* Whether gRPC may send this key, or this value under a key without "-bin". */
int gp_metadata_key_valid(gp_bytes key);
int gp_metadata_value_valid(gp_bytes value);

#endif
