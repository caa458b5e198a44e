/*
 * Layer: wire. The header of 12 bytes before everything that yamux sends, big-endian:
 *
 *     version u8 | type u8 | flags u16 | stream id u32 | length u32
 *
 * Only frames of data have a body, of |length| bytes; in the others |length| is a number: what a
 * window grows by, a ping's value, why the session ends. Pure functions, any thread.
 */
#ifndef GP_WIRE_YAMUX_FRAME_H
#define GP_WIRE_YAMUX_FRAME_H

#include <stdint.h>

#include "gp/error.h"

enum { GP__YAMUX_HEADER = 12 };

/* What every stream may receive before either side says anything about it. */
#define GP__YAMUX_WINDOW UINT32_C(262144)

enum {
    GP__YAMUX_TYPE_DATA = 0,
    GP__YAMUX_TYPE_WINDOW = 1,
    GP__YAMUX_TYPE_PING = 2,
    GP__YAMUX_TYPE_GO_AWAY = 3,
};

enum {
    GP__YAMUX_SYN = 1, /* opens a stream; of a ping, the question */
    GP__YAMUX_ACK = 2, /* accepts a stream; of a ping, the answer */
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
 * Read one header. Whether it fits the state of its stream is the session's business; here it has
 * to be one that can be right at all.
 *
 * Returns: 0, or GP_EPROTOCOL with what is wrong with it.
 */
int gp__yamux_header_read(gp__yamux_header *out, const unsigned char bytes[GP__YAMUX_HEADER],
                          gp_error *err);

void gp__yamux_header_write(unsigned char out[GP__YAMUX_HEADER], const gp__yamux_header *header);

#endif
