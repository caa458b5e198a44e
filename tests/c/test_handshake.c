#include <stdio.h>
#include <string.h>

#include "gp/client.h"
#include "gp/handshake.h"
#include "support.h"
#include "wire/handshake.h"

static const int versions[] = {1, 4};
static const gp__handshake_rules both = {versions, 2, GP_PROTOCOL_GRPC | GP_PROTOCOL_NETRPC};
static const gp__handshake_rules grpc_only = {versions, 2, GP_PROTOCOL_GRPC};
static const gp__handshake_rules netrpc_only = {versions, 2, GP_PROTOCOL_NETRPC};

static gp__handshake
parse(const char *line)
{
    gp__handshake out;
    gp_error err = GP_ERROR_INIT;

    if (gp__handshake_parse(&out, line, strlen(line), &both, &err) < 0) {
        fail_msg("%s: %s", line, gp_error_message(&err));
    }
    return out;
}

static void
assert_text(gp__text text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.data, expected, text.len);
}

/* The line is refused with |code|, and with a message that contains each of |words|. */
static void
expect_refusal(const char *line, size_t len, const gp__handshake_rules *rules, int code,
               const char *const *words)
{
    gp__handshake out;
    gp_error err = GP_ERROR_INIT;

    assert_int_equal(gp__handshake_parse(&out, line, len, rules, &err), code);
    assert_int_equal(err.code, code);
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strstr(gp_error_message(&err), words[i]) == NULL) {
            fail_msg("no \"%s\" in: %s", words[i], gp_error_message(&err));
        }
    }
    assert_non_null(err.detail);
    gp_error_release(&err);
}

#define REFUSE(line, ...)                                      \
    expect_refusal((line), strlen(line), &both, GP_EHANDSHAKE, \
                   (const char *const[]){__VA_ARGS__, NULL})

static void
full_line(void **state)
{
    gp__handshake out = parse("1|4|unix|/tmp/plugin123|grpc||true\n");

    (void)state;
    assert_int_equal(out.version, 4);
    assert_string_equal(out.network, "unix");
    assert_text(out.address, "/tmp/plugin123");
    assert_string_equal(out.protocol, "grpc");
    assert_int_equal(out.cert.len, 0);
    assert_int_equal(out.multiplex, GP__MUX_YES);
}

static void
short_lines(void **state)
{
    gp__handshake out = parse("1|1|tcp|127.0.0.1:1234");

    (void)state;
    assert_string_equal(out.protocol, "netrpc");
    assert_int_equal(out.multiplex, GP__MUX_ABSENT);
    assert_string_equal(parse("1|1|tcp|127.0.0.1:1234|").protocol, "netrpc");
    assert_string_equal(parse("1|1|tcp|127.0.0.1:1234|grpc").protocol, "grpc");
    assert_string_equal(parse("1|1|tcp|[::1]:1234|netrpc|").protocol, "netrpc");
    assert_text(parse("1|1|tcp|localhost:65535|grpc").address, "localhost:65535");
    assert_text(parse("1|1|tcp|:1234|grpc").address, ":1234"); /* this machine, as in Go */
}

static void
more_fields_than_known(void **state)
{
    (void)state;
    assert_int_equal(parse("1|1|unix|/s|grpc||false|what|ever").multiplex, GP__MUX_NO);
}

static void
multiplex_as_go_writes_it(void **state)
{
    (void)state;
    assert_int_equal(parse("1|1|unix|/s|grpc||1").multiplex, GP__MUX_YES);
    assert_int_equal(parse("1|1|unix|/s|grpc||True").multiplex, GP__MUX_YES);
    assert_int_equal(parse("1|1|unix|/s|grpc||F").multiplex, GP__MUX_NO);
    assert_int_equal(parse("1|1|unix|/s|grpc||maybe").multiplex, GP__MUX_INVALID);
    assert_int_equal(parse("1|1|unix|/s|grpc||").multiplex, GP__MUX_INVALID);
}

static void
certificate(void **state)
{
    char line[200];
    char cert[101];

    (void)state;
    memset(cert, 'A', sizeof(cert) - 1);
    cert[100] = '\0';
    snprintf(line, sizeof(line), "1|1|unix|/s|grpc|%s", cert);
    assert_text(parse(line).cert, cert);
    cert[51] = '\0';
    snprintf(line, sizeof(line), "1|1|unix|/s|grpc|%s", cert);
    assert_text(parse(line).cert, cert);
    cert[50] = '\0'; /* rubbish of old plugins */
    snprintf(line, sizeof(line), "1|1|unix|/s|grpc|%s", cert);
    assert_int_equal(parse(line).cert.len, 0);
}

static void
white_space(void **state)
{
    gp__handshake out = parse("  1| 1 |unix | /tmp/s| grpc\r\n");

    (void)state;
    assert_text(out.address, "/tmp/s");
    assert_string_equal(out.protocol, "grpc");
}

static void
malformed_lines(void **state)
{
    (void)state;
    REFUSE("", "empty", "before its handshake");
    REFUSE("\r\n", "empty");
    REFUSE("Hello, world", "\"Hello, world\"", "1 field,", "at least 4",
           "CORE|APP|NETWORK|ADDRESS");
    REFUSE("1|1|unix", "3 fields", "at least 4");
    REFUSE("one|1|unix|/s|grpc", "core protocol version", "\"one\"", "number 1");
    REFUSE("2|1|unix|/s|grpc", "incompatible core API version", "core version 2", "speaks 1");
    REFUSE("99999999999999999999|1|unix|/s|grpc", "core protocol version");
    REFUSE("1|x1|unix|/s|grpc", "API version (field 2)", "\"x1\"", "integer");
    REFUSE("1||unix|/s|grpc", "API version (field 2)", "\"\"");
    REFUSE("1|1|udp|/s|grpc", "unknown network", "\"udp\"", "unix or tcp");
    REFUSE("1|1||/s|grpc", "unknown network", "\"\"");
    REFUSE("1|1|unix||grpc", "address", "is empty");
    REFUSE("1|1|tcp||grpc", "address", "is empty");
    REFUSE("1|1|unix|/s|http", "unknown protocol", "\"http\"", "grpc or netrpc");
}

static void
malformed_addresses(void **state)
{
    char line[300] = "1|1|unix|/";

    (void)state;
    REFUSE("1|1|tcp|localhost|grpc", "no port", "host:port");
    REFUSE("1|1|tcp|localhost:|grpc", "no port between");
    REFUSE("1|1|tcp|localhost:http|grpc", "no port between");
    REFUSE("1|1|tcp|localhost:0|grpc", "no port between");
    REFUSE("1|1|tcp|localhost:65536|grpc", "no port between");
    REFUSE("1|1|tcp|localhost:-1|grpc", "no port between");
    REFUSE("1|1|tcp|::1:1234|grpc", "without brackets");
    REFUSE("1|1|tcp|[::1:1234|grpc", "unclosed bracket");
    REFUSE("1|1|tcp|/tmp/x:12|grpc", "no host name has");
    memset(line + 10, 'p', 107);
    strcpy(line + 117, "|grpc");
    REFUSE(line, "longer than a unix socket's path", "TMPDIR");
    line[116] = '\0';
    strcat(line, "|grpc");
    assert_int_equal(parse(line).address.len, 107);
}

static void
binary_lines(void **state)
{
    static const char with_zero[] = "1|1|unix|/tmp/\0s|grpc";
    static const char *const words[] = {"binary data", "\\x00", NULL};

    (void)state;
    expect_refusal(with_zero, sizeof(with_zero) - 1, &both, GP_EHANDSHAKE, words);
    REFUSE("\x7f"
           "ELF\x02\x01\x01",
           "binary data", "\\x7fELF\\x02");
    REFUSE("\xff\xfe\xfd", "\\xff\\xfe\\xfd", "1 field");
}

static void
long_lines_are_quoted_in_part(void **state)
{
    char line[5000];
    gp__handshake out;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    memset(line, 'x', sizeof(line));
    assert_int_equal(gp__handshake_parse(&out, line, sizeof(line), &both, &err), GP_EHANDSHAKE);
    assert_true(strlen(gp_error_message(&err)) < 800);
    assert_non_null(strstr(gp_error_message(&err), "... (5000 bytes)"));
    assert_int_equal(err.detail_len, 5000);
    gp_error_release(&err);
}

static void
protocols_that_are_not_allowed(void **state)
{
    static const char *const words[] = {"the plugin speaks net/rpc, and this host only gRPC",
                                        "GRPCServer", "1|1|unix|/s|netrpc", NULL};
    static const char *const absent[] = {"names no protocol", "only gRPC", NULL};
    static const char netrpc[] = "1|1|unix|/s|netrpc";
    static const char none[] = "1|1|unix|/s";
    static const char grpc[] = "1|1|unix|/s|grpc";
    static const char *const other[] = {"the plugin speaks gRPC, and this host only net/rpc",
                                        "allowed_protocols", "GRPCServer", grpc, NULL};

    (void)state;
    expect_refusal(grpc, strlen(grpc), &netrpc_only, GP_EHANDSHAKE, other);
    expect_refusal(netrpc, strlen(netrpc), &grpc_only, GP_EHANDSHAKE, words);
    expect_refusal(none, strlen(none), &grpc_only, GP_EHANDSHAKE, absent);
}

static void
versions_that_the_host_does_not_speak(void **state)
{
    static const char line[] = "1|7|unix|/s|http";
    gp__handshake out;
    gp_error err = GP_ERROR_INIT;

    (void)state;
    /* The version is checked before later fields: an old plugin may have faults in those, too. */
    assert_int_equal(gp__handshake_parse(&out, line, strlen(line), &both, &err), GP_EVERSION);
    assert_int_equal(err.number, 7);
    assert_non_null(strstr(gp_error_message(&err), "version 7"));
    assert_non_null(strstr(gp_error_message(&err), "1, 4"));
    assert_string_equal(err.detail, line);
    gp_error_release(&err);
}

static void
finding_the_end(void **state)
{
    gp_error err = GP_ERROR_INIT;
    char *flood = test_malloc(GP__HANDSHAKE_MAX);

    (void)state;
    memset(flood, 'x', GP__HANDSHAKE_MAX);
    assert_int_equal(gp__handshake_find("", 0, &err), 0);
    assert_int_equal(gp__handshake_find(NULL, 0, &err), 0);
    assert_int_equal(gp__handshake_find("1|1|unix", 8, &err), 0);
    assert_int_equal(gp__handshake_find("1|1\nmore", 8, &err), 4);
    assert_int_equal(gp__handshake_find("\n", 1, &err), 1);
    assert_int_equal(gp__handshake_find(flood, GP__HANDSHAKE_MAX - 1, &err), 0);
    assert_int_equal(gp__handshake_find(flood, GP__HANDSHAKE_MAX, &err), GP_EHANDSHAKE);
    assert_non_null(strstr(gp_error_message(&err), "longer than 65536 bytes"));
    gp_error_release(&err);
    flood[GP__HANDSHAKE_MAX - 1] = '\n';
    assert_int_equal(gp__handshake_find(flood, GP__HANDSHAKE_MAX, &err), GP__HANDSHAKE_MAX);
    test_free(flood);
}

static void
formatting(void **state)
{
    gp_handshake_fields fields = {3, "unix", "/tmp/plugin1", "grpc", NULL, -1};
    char line[GP_HANDSHAKE_LINE];
    gp_error err = GP_ERROR_INIT;
    ptrdiff_t len;

    (void)state;
    len = gp_handshake_format(line, sizeof(line), &fields, &err);
    assert_int_equal(len, strlen(line));
    assert_string_equal(line, "1|3|unix|/tmp/plugin1|grpc|\n");
    fields.cert = "QUJD";
    fields.multiplex = 1;
    gp_handshake_format(line, sizeof(line), &fields, &err);
    assert_string_equal(line, "1|3|unix|/tmp/plugin1|grpc|QUJD|true\n");
    fields.multiplex = 0;
    gp_handshake_format(line, sizeof(line), &fields, &err);
    assert_string_equal(line, "1|3|unix|/tmp/plugin1|grpc|QUJD|false\n");
    assert_int_equal(gp_handshake_format(line, 20, &fields, &err), GP_EINVAL);
    fields.address = "/tmp/a|b";
    assert_int_equal(gp_handshake_format(line, sizeof(line), &fields, &err), GP_EINVAL);
    fields.address = "/tmp/a\nb";
    assert_int_equal(gp_handshake_format(line, sizeof(line), &fields, &err), GP_EINVAL);
    gp_error_release(&err);
}

static void
format_and_parse_agree(void **state)
{
    const gp_handshake_fields fields = {4, "tcp", "127.0.0.1:10000", "netrpc", NULL, 1};
    char line[GP_HANDSHAKE_LINE];
    gp__handshake out;

    (void)state;
    assert_true(gp_handshake_format(line, sizeof(line), &fields, NULL) > 0);
    out = parse(line);
    assert_int_equal(out.version, 4);
    assert_text(out.address, "127.0.0.1:10000");
    assert_string_equal(out.protocol, "netrpc");
    assert_int_equal(out.multiplex, GP__MUX_YES);
}

static void
every_allocation_fails(void **state)
{
    static const char *const lines[] = {"nonsense", "2|1|unix|/s", "1|7|unix|/s", "1|1|tcp|x"};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        long failing = 0;
        bool failed;

        do {
            gp__handshake out;
            gp_error err = GP_ERROR_INIT;

            alloc_begin(failing++);
            assert_true(gp__handshake_parse(&out, lines[i], strlen(lines[i]), &both, &err) < 0);
            assert_non_null(gp_error_message(&err));
            failed = alloc_failures() > 0;
            gp_error_release(&err);
            alloc_end();
        } while (failed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_line),
        cmocka_unit_test(short_lines),
        cmocka_unit_test(more_fields_than_known),
        cmocka_unit_test(multiplex_as_go_writes_it),
        cmocka_unit_test(certificate),
        cmocka_unit_test(white_space),
        cmocka_unit_test(malformed_lines),
        cmocka_unit_test(malformed_addresses),
        cmocka_unit_test(binary_lines),
        cmocka_unit_test(long_lines_are_quoted_in_part),
        cmocka_unit_test(protocols_that_are_not_allowed),
        cmocka_unit_test(versions_that_the_host_does_not_speak),
        cmocka_unit_test(finding_the_end),
        cmocka_unit_test(formatting),
        cmocka_unit_test(format_and_parse_agree),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
