/*
 * Layer: public. The plugin's side of the handshake: which version to speak, and the line to print.
 */
#ifndef GP_HANDSHAKE_H
#define GP_HANDSHAKE_H

#include <stddef.h>

#include "gp/error.h"

/* What go-plugin calls the core protocol: the form of the handshake line itself. */
#define GP_CORE_PROTOCOL 1

/* The protocols that a plugin may use after its handshake, as bits of a set. */
enum { GP_PROTOCOL_NETRPC = 1 << 0, GP_PROTOCOL_GRPC = 1 << 1 };

/* Room for any line without a certificate; add the certificate's length for one with it. */
#define GP_HANDSHAKE_LINE 512

/* The fields of a plugin's handshake line, in their order after the core protocol's version. */
typedef struct gp_handshake_fields {
    int version;
    const char *network;  /* "unix" or "tcp" */
    const char *address;  /* the socket's path, or host:port */
    const char *protocol; /* "grpc" or "netrpc" */
    const char *cert;     /* base64 of the certificate's DER without padding; NULL: none */
    int multiplex;        /* 1 or 0; negative leaves the field out, for old hosts */
} gp_handshake_fields;

/*
 * Write the line to print on stdout, with its newline and a terminating zero.
 *
 * Returns: its length without the zero, or GP_EINVAL: it is longer than |size|, or a field holds a
 * bar or a line break. Threads: any.
 */
ptrdiff_t gp_handshake_format(char *out, size_t size, const gp_handshake_fields *fields,
                              gp_error *err);

/* Called for each invalid entry of the host's list; |text| is a sentence for people. */
typedef void gp_version_note(void *ctx, const char *text);

/*
 * Choose the plugin's version: the highest of its own that the host lists, or else its lowest; the
 * host then reports the mismatch.
 *
 * |versions| are the plugin's, in any order. |listed| is the value of PLUGIN_PROTOCOL_VERSIONS,
 * NULL when the host did not set it. |note| may be NULL.
 *
 * Returns: 1 if the host listed |*out|, 0 if it did not, GP_EINVAL if |count| is 0. Threads: any.
 */
int gp_version_choose(int *out, const int *versions, size_t count, const char *listed,
                      gp_version_note *note, void *ctx, gp_error *err);

#endif
