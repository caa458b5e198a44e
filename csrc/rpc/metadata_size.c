#include "rpc/metadata_size.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "rpc/grpc_symbols.h"

#define MARK "pygo-plugin (max_metadata_size="

/*
 * In bytes: what HTTP/2 counts in addition for each entry; and what gRPC itself sends, such as the
 * status and the content type.
 */
enum { ENTRY = 32, OTHERS = 512 };

char *
gp__user_agent(const char *given, const char *name, int size)
{
    return gp__format("%s%s%s/%s " MARK "%d)", given != NULL ? given : "", given != NULL ? " " : "",
                      name, grpc_version_string(), size);
}

/* Where |what| begins in |in|; NULL if it is not there. */
static const char *
find_text(gp_bytes in, const char *what)
{
    size_t len = strlen(what);
    const char *at = in.data;

    for (size_t left = in.len; left >= len; at++, left--) {
        if (memcmp(at, what, len) == 0) {
            return at;
        }
    }
    return NULL;
}

size_t
gp__metadata_size_of(gp_bytes user_agent, size_t otherwise)
{
    const char *end = (const char *)user_agent.data + user_agent.len;
    const char *at = find_text(user_agent, MARK);
    size_t size = 0;

    if (at == NULL) {
        return find_text(user_agent, "grpc-go/") != NULL ? GP__METADATA_SIZE_GO : otherwise;
    }
    for (at += strlen(MARK); at < end && *at >= '0' && *at <= '9' && size < (1u << 30); at++) {
        size = size * 10 + (size_t)(*at - '0');
    }
    return size;
}

/* How many bytes gRPC sends for |byte|: the byte itself, or a percent sign and two digits. */
static size_t
sent_size(unsigned char byte)
{
    return byte >= 0x20 && byte <= 0x7e && byte != '%' ? 1 : 3;
}

/* The length of the longest prefix of whole characters that gRPC sends as at most |room| bytes. */
static size_t
prefix_within(gp_bytes text, size_t room)
{
    const unsigned char *bytes = text.data;
    size_t sent = 0;
    size_t len = 0;

    while (len < text.len && sent + sent_size(bytes[len]) <= room) {
        sent += sent_size(bytes[len++]);
    }
    if (len < text.len) {
        /* Go back to the first byte of a UTF-8 character. */
        while (len > 0 && (bytes[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return len;
}

static size_t
size_of_metadata(gp_metadata metadata)
{
    size_t size = 0;

    for (size_t i = 0; i < metadata.count; i++) {
        /* A binary value is sent in base64. */
        size += metadata.items[i].key.len + metadata.items[i].value.len / 3 * 4 + 4 + ENTRY;
    }
    return size;
}

gp_bytes
gp__details_within(gp_bytes details, gp_metadata trailing, size_t size, char **cut)
{
    size_t others = OTHERS + size_of_metadata(trailing);
    size_t room = size > others ? size - others : 0;
    char *note;
    size_t note_len;
    size_t len;

    *cut = NULL;
    if (prefix_within(details, room) == details.len) {
        return details;
    }
    note = gp__format("... [cut: %zu bytes in all, more than the client accepts]", details.len);
    if (note == NULL) {
        return details;
    }
    note_len = strlen(note);
    len = room > note_len ? prefix_within(details, room - note_len) : 0;
    *cut = gp__malloc(len + note_len);
    if (*cut == NULL) {
        gp__free(note);
        return details;
    }
    memcpy(*cut, details.data, len);
    memcpy(*cut + len, note, note_len);
    gp__free(note);
    return (gp_bytes){*cut, len + note_len};
}
