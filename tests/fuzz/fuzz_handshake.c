/* Any bytes as the first line of a plugin's stdout, and as the host's list of versions. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/client.h"
#include "gp/handshake.h"
#include "plugin/preamble.h"
#include "wire/handshake.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static const int versions[] = {3, 1, 7};

static void
check_inside(gp__text text, const char *line, size_t len)
{
    if (text.len > 0) {
        CHECK(text.data >= line && text.data + text.len <= line + len);
    }
}

/* What was parsed, written again, has to be parsed as the same. */
static void
check_round_trip(const gp__handshake *parsed, const gp__handshake_rules *rules)
{
    char *address = gp__memdup(parsed->address.data, parsed->address.len);
    char *cert = gp__memdup(parsed->cert.data, parsed->cert.len);
    size_t size = GP_HANDSHAKE_LINE + parsed->address.len + parsed->cert.len;
    char *line = malloc(size);
    const gp_handshake_fields fields = {
        .version = parsed->version,
        .network = parsed->network,
        .address = address,
        .protocol = parsed->protocol,
        .cert = cert,
        .multiplex = parsed->multiplex == GP__MUX_YES,
    };
    ptrdiff_t len = gp_handshake_format(line, size, &fields, NULL);
    gp__handshake again;

    CHECK(len > 0 && gp__handshake_parse(&again, line, (size_t)len, rules, NULL) == 0);
    CHECK(again.version == parsed->version && again.address.len == parsed->address.len &&
          memcmp(again.address.data, parsed->address.data, again.address.len) == 0);
    CHECK(again.cert.len == parsed->cert.len);
    CHECK(again.multiplex == (parsed->multiplex == GP__MUX_YES ? GP__MUX_YES : GP__MUX_NO));
    gp__free(address);
    gp__free(cert);
    free(line);
}

static void
try_line(const char *line, size_t len, unsigned protocols)
{
    const gp__handshake_rules rules = {versions, 3, protocols};
    gp__handshake out;
    gp_error err = GP_ERROR_INIT;
    int rc = gp__handshake_parse(&out, line, len, &rules, &err);

    if (rc == 0) {
        check_inside(out.address, line, len);
        check_inside(out.cert, line, len);
        CHECK(gp__handshake_is_likely(line, len));
        CHECK(out.version == 1 || out.version == 3 || out.version == 7);
        check_round_trip(&out, &rules);
    } else {
        CHECK(rc == GP_EHANDSHAKE || rc == GP_EVERSION);
        CHECK(err.code == rc && gp_error_message(&err)[0] != '\0');
    }
    gp_error_release(&err);
}

/*
 * Whatever is skipped, what is left is either waited for, or begins with what may be a handshake.
 */
static void
try_preamble(const char *bytes, size_t len)
{
    gp__preamble preamble = {.most = 2};
    gp__buf output = GP__BUF_INIT;
    int rc = gp__buf_append(&output, bytes, len);

    CHECK(rc == 0);
    rc = gp__preamble_skip(&preamble, &output, NULL);
    CHECK(rc <= 1 && preamble.lines <= preamble.most && output.len <= len);
    CHECK(rc != 1 || gp__handshake_is_likely(output.data, output.len));
    gp__preamble_release(&preamble);
    gp__buf_release(&output);
}

static void
try_list(const char *bytes, size_t len)
{
    char *listed = gp__memdup(bytes, len);
    int version;
    int rc = gp_version_choose(&version, versions, 3, listed, NULL, NULL, NULL);

    CHECK(rc == 0 ? version == 1 : version == 1 || version == 3 || version == 7);
    gp__free(listed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    ptrdiff_t found = gp__handshake_find(bytes, size, NULL);

    CHECK(found <= (ptrdiff_t)size);
    CHECK(found <= 0 || bytes[found - 1] == '\n');
    try_line(bytes, size, GP_PROTOCOL_GRPC | GP_PROTOCOL_NETRPC);
    try_line(bytes, size, GP_PROTOCOL_GRPC);
    if (found > 0) {
        try_line(bytes, (size_t)found, GP_PROTOCOL_GRPC | GP_PROTOCOL_NETRPC);
    }
    try_list(bytes, size);
    try_preamble(bytes, size);
    return 0;
}
