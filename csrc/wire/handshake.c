#include "wire/handshake.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "gp/handshake.h"
#include "wire/negotiate.h"

enum {
    FEWEST_FIELDS = 4,
    MOST_FIELDS = 7, /* more are ignored, as go-plugin does */
    /* Old plugins have rubbish in the certificate's field, shorter than any certificate. */
    LONGEST_RUBBISH = 50,
};

/* A line and its fields, while it is parsed. */
typedef struct line {
    gp__text whole;
    gp__text fields[MOST_FIELDS];
    size_t count;
} line;

ptrdiff_t
gp__handshake_find(const char *bytes, size_t len, gp_error *err)
{
    size_t searched = len < GP__HANDSHAKE_MAX ? len : GP__HANDSHAKE_MAX;
    const char *newline = searched > 0 ? memchr(bytes, '\n', searched) : NULL;
    char quoted[GP__QUOTED];

    if (newline != NULL) {
        return newline - bytes + 1;
    }
    if (len < GP__HANDSHAKE_MAX) {
        return 0;
    }
    gp_error_set(err, GP_EHANDSHAKE,
                 "the first line of the plugin's stdout is longer than %d bytes, so it is no "
                 "go-plugin handshake: %s",
                 GP__HANDSHAKE_MAX, gp__quote(quoted, bytes, len));
    gp_error_set_detail(err, bytes, len);
    return GP_EHANDSHAKE;
}

static int set_malformed(gp_error *err, const line *in, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Set "unrecognised handshake line "...": <what is wrong and what to do>". Returns GP_EHANDSHAKE.
 */
static int
set_malformed(gp_error *err, const line *in, const char *format, ...)
{
    char quoted[GP__QUOTED];
    char *what;
    va_list args;

    va_start(args, format);
    what = gp__vformat(format, args);
    va_end(args);
    gp_error_set(err, GP_EHANDSHAKE, "unrecognised handshake line %s: %s",
                 gp__quote(quoted, in->whole.data, in->whole.len),
                 what != NULL ? what : "not what a go-plugin plugin prints");
    gp_error_set_detail(err, in->whole.data, in->whole.len);
    gp__free(what);
    return GP_EHANDSHAKE;
}

static bool
is_binary(gp__text text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return true;
        }
    }
    return false;
}

/* Split the line into fields without white space at their ends. */
static void
split_fields(line *in)
{
    const char *at = in->whole.data;
    const char *end = at + in->whole.len;

    in->count = 0;
    while (in->count < MOST_FIELDS) {
        const char *bar = at < end ? memchr(at, '|', (size_t)(end - at)) : NULL;
        gp__text field = {at, (size_t)((bar != NULL ? bar : end) - at)};

        in->fields[in->count++] = gp__text_trim(field);
        if (bar == NULL) {
            break;
        }
        at = bar + 1;
    }
}

bool
gp__handshake_is_likely(const char *bytes, size_t len)
{
    line in = {.whole = gp__text_trim((gp__text){bytes, len})};
    int number;

    split_fields(&in);
    return in.count >= FEWEST_FIELDS && gp__text_int(in.fields[0], &number) &&
           gp__text_int(in.fields[1], &number) &&
           (gp__text_is(in.fields[2], "unix") || gp__text_is(in.fields[2], "tcp"));
}

static int
check_form(const line *in, gp_error *err)
{
    if (in->whole.len == 0) {
        return set_malformed(
            err, in,
            "it is empty; expected CORE|APP|NETWORK|ADDRESS|PROTOCOL. The plugin must "
            "print nothing to stdout before its handshake");
    }
    if (is_binary(in->whole)) {
        return set_malformed(err, in,
                             "it holds binary data; expected CORE|APP|NETWORK|ADDRESS|PROTOCOL as "
                             "text. Is this program a go-plugin plugin?");
    }
    if (in->count < FEWEST_FIELDS) {
        return set_malformed(
            err, in,
            "it has %zu field%s, expected at least %d: "
            "CORE|APP|NETWORK|ADDRESS|PROTOCOL. Is this program a go-plugin plugin, "
            "and does it print nothing to stdout before its handshake?",
            in->count, in->count == 1 ? "" : "s", FEWEST_FIELDS);
    }
    return 0;
}

static int
parse_versions(gp__handshake *out, const line *in, const gp__handshake_rules *rules, gp_error *err)
{
    char quoted[GP__QUOTED];
    int core;
    int rc;

    if (!gp__text_int(in->fields[0], &core)) {
        return set_malformed(
            err, in, "the core protocol version (field 1) is %s, expected the number %d",
            gp__quote(quoted, in->fields[0].data, in->fields[0].len), GP_CORE_PROTOCOL);
    }
    if (core != GP_CORE_PROTOCOL) {
        return set_malformed(
            err, in,
            "incompatible core API version: the plugin speaks core version %d, this "
            "host speaks %d; rebuild the plugin with a go-plugin library that speaks "
            "version %d",
            core, GP_CORE_PROTOCOL, GP_CORE_PROTOCOL);
    }
    if (!gp__text_int(in->fields[1], &out->version)) {
        return set_malformed(err, in, "the API version (field 2) is %s, expected an integer",
                             gp__quote(quoted, in->fields[1].data, in->fields[1].len));
    }
    rc = gp__version_accept(out->version, rules->versions, rules->versions_count, err);
    if (rc < 0) {
        gp_error_set_detail(err, in->whole.data, in->whole.len);
    }
    return rc;
}

/* What is wrong with an address of TCP; NULL: nothing. */
static const char *
tcp_fault(gp__text address)
{
    const char *colon = NULL;
    gp__text port;
    int number;

    for (size_t i = address.len; i > 0 && colon == NULL; i--) {
        if (address.data[i - 1] == ':') {
            colon = address.data + i - 1;
        }
    }
    if (colon == NULL) {
        return "has no port; expected host:port";
    }
    port = (gp__text){colon + 1, (size_t)(address.data + address.len - colon - 1)};
    if (port.len == 0 || port.data[0] < '0' || port.data[0] > '9' || !gp__text_int(port, &number) ||
        number < 1 || number > 65535) {
        return "has no port between 1 and 65535 behind the last colon; expected host:port";
    }
    address.len = (size_t)(colon - address.data);
    if (address.len == 0) {
        return NULL; /* this machine, as in Go */
    }
    if (address.data[0] == '[') {
        return address.len > 2 && address.data[address.len - 1] == ']'
                   ? NULL
                   : "has an unclosed bracket; expected [address]:port for IPv6";
    }
    for (size_t i = 0; i < address.len; i++) {
        char c = address.data[i];

        if (c == ':') {
            return "is an IPv6 address without brackets; expected [address]:port";
        }
        if (c <= ' ' || c == '/' || c == '[' || c == ']') {
            return "has a character that no host name has; expected host:port";
        }
    }
    return NULL;
}

/* What is wrong with the path of a unix socket; NULL: nothing. */
static const char *
unix_fault(gp__text address)
{
    const size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

    if (address.len > room) {
        return "is longer than a unix socket's path may be (107 bytes on Linux, 103 on macOS); set "
               "TMPDIR or PLUGIN_UNIX_SOCKET_DIR to a shorter directory";
    }
    return memchr(address.data, '\0', address.len) != NULL ? "holds a zero byte" : NULL;
}

const char *
gp__address_fault(const char *network, gp__text address)
{
    if (address.len == 0) {
        return "is empty";
    }
    return strcmp(network, "unix") == 0 ? unix_fault(address) : tcp_fault(address);
}

static int
parse_address(gp__handshake *out, const line *in, gp_error *err)
{
    gp__text network = in->fields[2];
    char quoted[GP__QUOTED];
    const char *fault;

    if (gp__text_is(network, "unix")) {
        out->network = "unix";
    } else if (gp__text_is(network, "tcp")) {
        out->network = "tcp";
    } else {
        return set_malformed(err, in, "unknown network %s (field 3), expected unix or tcp",
                             gp__quote(quoted, network.data, network.len));
    }
    out->address = in->fields[3];
    fault = gp__address_fault(out->network, out->address);
    if (fault != NULL) {
        return set_malformed(err, in, "the %s address %s (field 4) %s", out->network,
                             gp__quote(quoted, out->address.data, out->address.len), fault);
    }
    return 0;
}

/* The line is valid, but the host does not use the plugin's protocol. Returns GP_EHANDSHAKE. */
static int
set_unsupported(const line *in, unsigned protocol, gp_error *err)
{
    char quoted[GP__QUOTED];

    gp__quote(quoted, in->whole.data, in->whole.len);
    if (protocol == GP_PROTOCOL_NETRPC) {
        gp_error_set(err, GP_EHANDSHAKE,
                     "the plugin speaks net/rpc, and this host only gRPC: it has to be changed to "
                     "serve gRPC (in Go: set GRPCServer in its plugin.ServeConfig, to "
                     "plugin.DefaultGRPCServer, and implement plugin.GRPCPlugin); its handshake "
                     "line is %s%s",
                     quoted, in->count < 5 ? ", which names no protocol" : "");
    } else {
        gp_error_set(err, GP_EHANDSHAKE,
                     "the plugin speaks gRPC, and this host only net/rpc: the host needs gRPC's "
                     "plugins and \"grpc\" in its allowed_protocols, or the plugin has to serve "
                     "net/rpc (in Go: leave GRPCServer out of its plugin.ServeConfig); its "
                     "handshake line is %s",
                     quoted);
    }
    gp_error_set_detail(err, in->whole.data, in->whole.len);
    return GP_EHANDSHAKE;
}

static int
parse_protocol(gp__handshake *out, const line *in, const gp__handshake_rules *rules, gp_error *err)
{
    char quoted[GP__QUOTED];
    unsigned bit;

    /* Plugins that are older than the choice of a protocol leave the field out, or empty. */
    if (in->count < 5 || in->fields[4].len == 0 || gp__text_is(in->fields[4], "netrpc")) {
        out->protocol = "netrpc";
        bit = GP_PROTOCOL_NETRPC;
    } else if (gp__text_is(in->fields[4], "grpc")) {
        out->protocol = "grpc";
        bit = GP_PROTOCOL_GRPC;
    } else {
        return set_malformed(err, in, "unknown protocol %s (field 5), expected grpc or netrpc",
                             gp__quote(quoted, in->fields[4].data, in->fields[4].len));
    }
    return (rules->protocols & bit) != 0 ? 0 : set_unsupported(in, bit, err);
}

/* The spellings that Go's strconv.ParseBool accepts, by which go-plugin reads this field. */
static int
parse_multiplex(gp__text field)
{
    static const char *const yes[] = {"true", "1", "t", "T", "TRUE", "True"};
    static const char *const no[] = {"false", "0", "f", "F", "FALSE", "False"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (gp__text_is(field, yes[i])) {
            return GP__MUX_YES;
        }
        if (gp__text_is(field, no[i])) {
            return GP__MUX_NO;
        }
    }
    return GP__MUX_INVALID;
}

int
gp__handshake_parse(gp__handshake *out, const char *bytes, size_t len,
                    const gp__handshake_rules *rules, gp_error *err)
{
    line in = {.whole = {bytes, len}};
    int rc;

    memset(out, 0, sizeof(*out));
    in.whole = gp__text_trim(in.whole); /* a line from Windows ends in CR LF */
    split_fields(&in);
    if ((rc = check_form(&in, err)) < 0 || (rc = parse_versions(out, &in, rules, err)) < 0 ||
        (rc = parse_address(out, &in, err)) < 0 ||
        (rc = parse_protocol(out, &in, rules, err)) < 0) {
        return rc;
    }
    if (in.count > 5 && in.fields[5].len > LONGEST_RUBBISH) {
        out->cert = in.fields[5];
    }
    out->multiplex = in.count > 6 ? parse_multiplex(in.fields[6]) : GP__MUX_ABSENT;
    return 0;
}

static bool
breaks_line(const char *field)
{
    return strpbrk(field, "|\r\n") != NULL;
}

ptrdiff_t
gp_handshake_format(char *out, size_t size, const gp_handshake_fields *fields, gp_error *err)
{
    const char *cert = fields->cert != NULL ? fields->cert : "";
    const char *multiplex = fields->multiplex > 0 ? "|true" : "|false";
    int len;

    if (breaks_line(fields->network) || breaks_line(fields->address) ||
        breaks_line(fields->protocol) || breaks_line(cert)) {
        return gp_error_set(err, GP_EINVAL,
                            "a field of the handshake line holds a bar or a line break: %s|%s|%s",
                            fields->network, fields->address, fields->protocol);
    }
    len = snprintf(out, size, "%d|%d|%s|%s|%s|%s%s\n", GP_CORE_PROTOCOL, fields->version,
                   fields->network, fields->address, fields->protocol, cert,
                   fields->multiplex >= 0 ? multiplex : "");
    if (len < 0 || (size_t)len >= size) {
        return gp_error_set(err, GP_EINVAL, "the handshake line has %d bytes, room was for %zu",
                            len, size);
    }
    return len;
}
