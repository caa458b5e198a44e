/*
 * Layer: services. Messages of StreamStdio, as a plugin sends them.
 */
#ifndef GP_SERVICES_STDIO_MESSAGE_H
#define GP_SERVICES_STDIO_MESSAGE_H

#include "gp/message.h"
#include "os/stdio_state.h"

/*
 * The chunk as a StdioData: the channel, field 1; the length of the output, field 2; and the
 * output. What precedes the output is written into the room in front of the chunk; nothing is
 * copied. Valid as long as the chunk.
 */
gp_bytes gp__stdio_message(const gp__stdio_chunk *chunk);

#endif
