/*
 * Layer: wire. The header of a yamux frame: 12 bytes, big-endian.
 *
 *     version u8 | type u8 | flags u16 | stream id u32 | length u32
 *
 * Only data frames have a body, of |length| bytes. In others |length| is a number: by how much a
 * window grows, the value of a ping, or why the session ends. Pure functions, any thread.
 */
#ifndef GP_WIRE_YAMUX_FRAME_H
#define GP_WIRE_YAMUX_FRAME_H

#include <stdint.h>

#include "gp/error.h"

enum { GP__YAMUX_HEADER = 12 };

/* The initial window of every stream, in bytes. */
#define GP__YAMUX_WINDOW UINT32_C(262144)

enum {
    GP__YAMUX_TYPE_DATA = 0,
    GP__YAMUX_TYPE_WINDOW = 1,
    GP__YAMUX_TYPE_PING = 2,
    GP__YAMUX_TYPE_GO_AWAY = 3,
};

enum {
    GP__YAMUX_SYN = 1, /* opens a stream; of a ping: the request */
    GP__YAMUX_ACK = 2, /* accepts a stream; of a ping: the response */
    GP__YAMUX_FIN = 4, /* the sender sends no more data */
    GP__YAMUX_RST = 8, /* the stream is over in both directions */
};

/* Why a session ends. */
enum {
    GP__YAMUX_NORMAL = 0,
    GP__YAMUX_PROTOCOL_ERROR = 1,
    GP__YAMUX_INTERNAL_ERROR = 2,
};

typedef struct gp__yamux_header {
    uint8_t type;
    uint16_t flags;
    uint32_t id; /* 0: the session */
    uint32_t length;
} gp__yamux_header;

/*
 * Parse a header, and check what can be checked without the state of its stream.
 *
 * Returns: 0, or GP_EPROTOCOL with what is wrong with it.
 */
int gp__yamux_header_read(gp__yamux_header *out, const unsigned char bytes[GP__YAMUX_HEADER],
                          gp_error *err);

void gp__yamux_header_write(unsigned char out[GP__YAMUX_HEADER], const gp__yamux_header *header);

#endif
