/*
 * Layer: wire. The line that a plugin prints first on its stdout:
 *
 *     CORE | APP | NETWORK | ADDRESS [| PROTOCOL [| SERVER_CERT [| MULTIPLEX]]]
 *
 * Pure functions of bytes: no I/O, no state, any thread.
 */
#ifndef GP_WIRE_HANDSHAKE_H
#define GP_WIRE_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "gp/error.h"

/* The greatest length of a handshake line, in bytes. */
enum { GP__HANDSHAKE_MAX = 64 * 1024 };

/* The seventh field: whether the plugin can multiplex the broker over one connection. */
enum { GP__MUX_NO, GP__MUX_YES, GP__MUX_ABSENT, GP__MUX_INVALID };

/* What the host accepts. */
typedef struct gp__handshake_rules {
    const int *versions; /* borrowed */
    size_t versions_count;
    unsigned protocols; /* GP_PROTOCOL_* */
} gp__handshake_rules;

typedef struct gp__handshake {
    int version;
    const char *network;  /* "unix" or "tcp"; static */
    gp__text address;     /* points into the line */
    const char *protocol; /* "grpc" or "netrpc"; static */
    gp__text cert;        /* points into the line; empty if there is none, or only rubbish */
    int multiplex;        /* GP__MUX_* */
} gp__handshake;

/*
 * Find the end of the first line in |bytes|.
 *
 * Returns: its length with the newline, 0 if the line is incomplete, or GP_EHANDSHAKE: no newline
 * within GP__HANDSHAKE_MAX bytes.
 */
ptrdiff_t gp__handshake_find(const char *bytes, size_t len, gp_error *err);

/*
 * Whether a line, with or without its end, looks like a handshake, even if it is not a valid one:
 * it begins with two numbers and a network.
 */
bool gp__handshake_is_likely(const char *line, size_t len);

/*
 * Parse one whole line, with or without its line end.
 *
 * Returns: 0, GP_EHANDSHAKE, or GP_EVERSION (the plugin's version in err->number). The message
 * quotes the line and says what was expected; err->detail is the line.
 */
int gp__handshake_parse(gp__handshake *out, const char *line, size_t len,
                        const gp__handshake_rules *rules, gp_error *err);

/*
 * Check an address as it stands in a handshake line or a reattach configuration.
 *
 * Returns: NULL if it is valid, or what is wrong with it, as the predicate of a sentence.
 */
const char *gp__address_fault(const char *network, gp__text address);

#endif
