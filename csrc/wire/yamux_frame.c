#include "wire/yamux_frame.h"

enum { VERSION = 0 };

static uint32_t
get_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void
put_u32(unsigned char *out, uint32_t value)
{
    out[0] = (unsigned char)(value >> 24);
    out[1] = (unsigned char)(value >> 16);
    out[2] = (unsigned char)(value >> 8);
    out[3] = (unsigned char)value;
}

int
gp__yamux_header_read(gp__yamux_header *out, const unsigned char bytes[GP__YAMUX_HEADER],
                      gp_error *err)
{
    out->type = bytes[1];
    out->flags = (uint16_t)(bytes[2] << 8 | bytes[3]);
    out->id = get_u32(bytes + 4);
    out->length = get_u32(bytes + 8);
    if (bytes[0] != VERSION) {
        return gp_error_set(err, GP_EPROTOCOL, "expected a frame of yamux version %d, found %d",
                            VERSION, bytes[0]);
    }
    if (out->type > GP__YAMUX_TYPE_GO_AWAY) {
        return gp_error_set(err, GP_EPROTOCOL, "expected a yamux frame of type 0 to 3, found %d",
                            out->type);
    }
    if (out->type <= GP__YAMUX_TYPE_WINDOW && out->id == 0) {
        return gp_error_set(err, GP_EPROTOCOL,
                            "a yamux frame of a stream has the id 0, which is the session's");
    }
    return 0;
}

void
gp__yamux_header_write(unsigned char out[GP__YAMUX_HEADER], const gp__yamux_header *header)
{
    out[0] = VERSION;
    out[1] = header->type;
    out[2] = (unsigned char)(header->flags >> 8);
    out[3] = (unsigned char)header->flags;
    put_u32(out + 4, header->id);
    put_u32(out + 8, header->length);
}
