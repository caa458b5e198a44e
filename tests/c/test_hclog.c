#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "support.h"
#include "wire/hclog.h"

/* The parser of the present test. Records are valid until the next begin(). */
static gp__hclog hclog;
static gp__arena arena;

static void
begin(void)
{
    gp__arena_release(&arena);
    hclog = (gp__hclog){0};
}

static gp_log_record
parse_bytes(const char *line, size_t len)
{
    gp_log_record record;

    assert_int_equal(gp__hclog_parse(&hclog, &record, line, len, GP_TRACE, &arena), 1);
    return record;
}

static gp_log_record
parse(const char *line)
{
    return parse_bytes(line, strlen(line));
}

static void
assert_run(const char *run, size_t len, const char *expected)
{
    assert_non_null(run);
    if (len != strlen(expected) || memcmp(run, expected, len) != 0) {
        fail_msg("\"%.*s\" is not \"%s\"", (int)len, run, expected);
    }
}

static void
assert_record(const gp_log_record *record, int level, const char *message)
{
    assert_int_equal(record->level, level);
    assert_run(record->message, record->message_len, message);
}

static void
assert_line(const char *line, int level)
{
    gp_log_record record = parse(line);

    if (record.level != level) {
        fail_msg("level %d instead of %d: %s", record.level, level, line);
    }
    assert_record(&record, level, line);
    assert_int_equal(record.fields_count, 0);
}

static void
assert_field(const gp_log_record *record, size_t at, const char *key, const char *json)
{
    assert_true(at < record->fields_count);
    assert_run(record->fields[at].key, record->fields[at].key_len, key);
    assert_run(record->fields[at].json, record->fields[at].json_len, json);
}

/* ---- Entries ---- */

static void
a_whole_entry(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record = parse("{\"@level\":\"info\",\"@message\":\"hello\",\"@module\":\"kv.store\","
                   "\"@timestamp\":\"2024-05-06T07:08:09.123456+02:00\",\"n\":-1.5e3,"
                   "\"s\":\"a\\nb\",\"t\":true,\"z\":null}");
    assert_record(&record, GP_INFO, "hello");
    assert_run(record.module, record.module_len, "kv.store");
    assert_true(record.created > 1714972089.1234 && record.created < 1714972089.1235);
    assert_int_equal(record.fields_count, 4);
    assert_field(&record, 0, "n", "-1.5e3");
    assert_field(&record, 1, "s", "\"a\\nb\"");
    assert_field(&record, 2, "t", "true");
    assert_field(&record, 3, "z", "null");
}

static void
levels(void **state)
{
    static const struct {
        const char *name;
        int level;
    } known[] = {
        {"trace", GP_TRACE}, {"debug", GP_DEBUG}, {"info", GP_INFO},
        {"warn", GP_WARN},   {"error", GP_ERROR}, {"Error", GP_ERROR},
    };
    char line[100];

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        gp_log_record record;

        snprintf(line, sizeof(line), "{\"@message\":\"m\",\"@level\":\"%s\"}", known[i].name);
        record = parse(line);
        assert_record(&record, known[i].level, "m");
    }
}

static void
lines_that_are_no_entries_are_verbatim(void **state)
{
    (void)state;
    begin();
    assert_line("{\"@level\":\"loud\",\"@message\":\"m\"}", GP_DEBUG);
    assert_line("{\"@level\":\"off\",\"@message\":\"m\"}", GP_DEBUG);
    assert_line("{\"@level\":3,\"@message\":\"m\"}", GP_DEBUG);
    assert_line("{\"@message\":\"m\"}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":{}}", GP_DEBUG);
    assert_line("{}", GP_DEBUG);
    assert_line("{", GP_DEBUG);
    assert_line("[1,2]", GP_DEBUG);
    assert_line("\"text\"", GP_DEBUG);
    assert_line("", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\"", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\",}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\"} x", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\",\"n\":01}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\",\"n\":1.}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\",\"n\":-}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"m\",\"n\":tru}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"\\x\"}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"a\tb\"}", GP_DEBUG);
    assert_line("{\"@level\":\"info\",\"@message\":\"\\u12", GP_DEBUG);
}

static void
an_entry_without_message(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record = parse("{\"@level\":\"warn\"}");
    assert_record(&record, GP_WARN, "");
    record = parse(" {\"@level\":\"warn\"}"); /* hclog writes no such thing */
    assert_int_equal(record.level, GP_DEBUG);
    record = parse("{ \"@level\" : \"warn\" , \"a\" : 1 } \t");
    assert_int_equal(record.level, GP_WARN);
    assert_field(&record, 0, "a", "1");
}

static void
nested_values(void **state)
{
    static const char start[] = "{\"@level\":\"info\",\"@message\":\"m\",\"d\":";
    static char deep[60000];
    gp_log_record record;

    (void)state;
    begin();
    record =
        parse("{\"@level\":\"info\",\"@message\":\"m \\u00e9\",\"o\":{\"b\":[1,{}],\"a\":\"x\"},"
              "\"s\":\"q\\\"\"}");
    assert_record(&record, GP_INFO, "m \xc3\xa9");
    assert_field(&record, 0, "o", "{\"b\":[1,{}],\"a\":\"x\"}");
    assert_field(&record, 1, "s", "\"q\\\"\"");
    record =
        parse("{\"@level\":\"info\",\"@message\":\"m\",\"big\":[123456789012345678901234567890]}");
    assert_int_equal(record.level, GP_INFO);
    /* Nested too deeply for the scanner, then also for jansson. */
    record = parse(
        "{\"@level\":\"info\",\"@message\":\"m\",\"d\":[[[[[[[[[[[[[[[[[[1, 2]]]]]]]]]]]]]]]]]]}");
    assert_record(&record, GP_INFO, "m");
    assert_field(&record, 0, "d", "[[[[[[[[[[[[[[[[[[1,2]]]]]]]]]]]]]]]]]]");
    memset(deep, '[', sizeof(deep));
    memcpy(deep, start, strlen(start));
    record = parse_bytes(deep, sizeof(deep));
    assert_int_equal(record.level, GP_DEBUG);
    record = parse("{\"@level\":\"info\",\"@message\":\"a\\u0000b\",\"\\u006c\":[]}");
    assert_int_equal(record.message_len, 3);
    assert_memory_equal(record.message, "a\0b", 3);
    record = parse("{\"@level\":\"info\",\"@message\":\"m\",\"\\u006bey\":1}");
    assert_field(&record, 0, "key", "1");
}

static void
many_fields(void **state)
{
    char line[4000] = "{\"@level\":\"info\",\"@message\":\"m\"";
    gp_log_record record;

    (void)state;
    begin();
    for (int i = 0; i < 100; i++) {
        snprintf(line + strlen(line), 30, ",\"key%d\":%d", i, i);
    }
    strcat(line, "}");
    record = parse(line);
    assert_record(&record, GP_INFO, "m");
    assert_int_equal(record.fields_count, 100);
    assert_field(&record, 99, "key99", "99");
}

static void
escapes(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record =
        parse("{\"@level\":\"info\",\"@message\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u20ac\"}");
    assert_record(&record, GP_INFO, "\"\\/\b\f\n\r\tA\xe2\x82\xac");
    record = parse("{\"@level\":\"info\",\"@message\":\"\\ud83d\\ude00\"}");
    assert_record(&record, GP_INFO, "\xf0\x9f\x98\x80");
    record = parse("{\"@level\":\"info\",\"@message\":\"\\ud83dx\\ude00\\ud83d\"}");
    assert_record(&record, GP_INFO, "\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd");
    record = parse("{\"@level\":\"info\",\"@module\":\"a\\tb\"}");
    assert_run(record.module, record.module_len, "a\tb");
}

static void
invalid_utf8_never_fails(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record = parse("{\"@level\":\"info\",\"@message\":\"a\xff"
                   "b\",\"k\":\"\xc3(\"}");
    assert_record(&record, GP_INFO,
                  "a\xef\xbf\xbd"
                  "b");
    assert_field(&record, 0, "k", "\"\xef\xbf\xbd(\"");
    record = parse("{\"@level\":\"info\",\"@message\":\"\xe2\x82\",\"k\":[1]}");
    assert_record(&record, GP_INFO, "\xef\xbf\xbd");
    assert_line("\xff\xfe plain \x80", GP_DEBUG);
    record = parse_bytes("a\0b", 3);
    assert_int_equal(record.message_len, 3);
}

static void
invalid_timestamps_stay_fields(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record = parse("{\"@level\":\"info\",\"@message\":\"m\",\"@timestamp\":\"yesterday\"}");
    assert_true(record.created == 0);
    assert_field(&record, 0, "@timestamp", "\"yesterday\"");
    record = parse("{\"@level\":\"info\",\"@message\":\"m\",\"@timestamp\":12}");
    assert_field(&record, 0, "@timestamp", "12");
    record = parse("{\"@level\":\"info\",\"@message\":\"m\",\"@module\":7}");
    assert_null(record.module);
    assert_field(&record, 0, "@module", "7");
}

static void
the_last_of_two_keys_counts(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    record =
        parse("{\"@message\":\"a\",\"@message\":\"b\",\"@level\":\"info\",\"@level\":\"warn\"}");
    assert_record(&record, GP_WARN, "b");
}

/* ---- Text ---- */

static void
tagged_lines(void **state)
{
    (void)state;
    begin();
    assert_line("[TRACE] a", GP_TRACE);
    assert_line("[DEBUG] a", GP_DEBUG);
    assert_line("[INFO] a", GP_INFO);
    assert_line("[WARN] a", GP_WARN);
    assert_line("[ERROR] a", GP_ERROR);
    assert_line("[INFO]", GP_INFO);
    assert_line(" [INFO] a", GP_DEBUG);
    assert_line("[info] a", GP_DEBUG);
    assert_line("[INF", GP_DEBUG);
    assert_line("[", GP_DEBUG);
}

static void
a_panic_never_ends(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    assert_line("panic", GP_DEBUG);
    assert_line("panic: oh no", GP_ERROR);
    assert_line("", GP_ERROR);
    assert_line("goroutine 1 [running]:", GP_ERROR);
    assert_line("[DEBUG] tagged", GP_DEBUG);
    record = parse("{\"@level\":\"info\",\"@message\":\"m\"}");
    assert_record(&record, GP_INFO, "m");
    assert_line("{\"no\":\"entry\"}", GP_ERROR);
    assert_line("exit status 2", GP_ERROR);
    begin();
    assert_line("fatal error: all goroutines are asleep", GP_ERROR);
    assert_line("more", GP_ERROR);
}

static void
a_traceback(void **state)
{
    gp_log_record record;

    (void)state;
    begin();
    assert_line("before", GP_DEBUG);
    assert_line("Traceback (most recent call last):", GP_ERROR);
    assert_line("  File \"x.py\", line 1, in <module>", GP_ERROR);
    assert_line("[INFO] from another thread", GP_INFO);
    record = parse("{\"@level\":\"info\",\"@message\":\"m\"}");
    assert_record(&record, GP_INFO, "m");
    assert_line("    main()", GP_ERROR);
    assert_line("ValueError: bad", GP_ERROR);
    assert_line("after", GP_DEBUG);
}

static void
chained_tracebacks(void **state)
{
    (void)state;
    begin();
    assert_line("Traceback (most recent call last):", GP_ERROR);
    assert_line("  File \"x.py\", line 1, in <module>", GP_ERROR);
    assert_line("KeyError: 'k'", GP_ERROR);
    assert_line("", GP_ERROR);
    assert_line("During handling of the above exception, another exception occurred:", GP_ERROR);
    assert_line("", GP_ERROR);
    assert_line("Traceback (most recent call last):", GP_ERROR);
    assert_line("  File \"x.py\", line 3, in <module>", GP_ERROR);
    assert_line("ValueError", GP_ERROR);
    assert_line("", GP_ERROR);
    assert_line("The above exception was the direct cause of the following exception:", GP_ERROR);
    assert_line("", GP_ERROR);
    assert_line("Traceback (most recent call last):", GP_ERROR);
    assert_line("OSError: x", GP_ERROR);
    assert_line("after", GP_DEBUG);
    assert_line("", GP_DEBUG);
}

static void
exception_groups(void **state)
{
    (void)state;
    begin();
    assert_line("  + Exception Group Traceback (most recent call last):", GP_ERROR);
    assert_line("  |   File \"x.py\", line 1, in <module>", GP_ERROR);
    assert_line("  | ExceptionGroup: two (2 sub-exceptions)", GP_ERROR);
    assert_line("  +-+---------------- 1 ----------------", GP_ERROR);
    assert_line("    | ValueError: a", GP_ERROR);
    assert_line("    +------------------------------------", GP_ERROR);
}

static void
a_traceback_below_a_panic(void **state)
{
    (void)state;
    begin();
    assert_line("panic: x", GP_ERROR);
    assert_line("Traceback (most recent call last):", GP_ERROR);
    assert_line("ValueError: bad", GP_ERROR);
    assert_line("after", GP_ERROR);
}

/* ---- Thresholds ---- */

static int
filtered(const char *line, int threshold)
{
    gp_log_record record;

    return gp__hclog_parse(&hclog, &record, line, strlen(line), threshold, &arena);
}

static void
thresholds(void **state)
{
    (void)state;
    begin();
    assert_int_equal(filtered("{\"@level\":\"debug\",\"@message\":\"m\"}", GP_INFO), 0);
    assert_int_equal(filtered("{\"@message\":\"m\",\"@level\":\"debug\"}", GP_INFO), 0);
    assert_int_equal(filtered("{\"@level\":\"info\",\"@message\":\"m\"}", GP_INFO), 1);
    assert_int_equal(filtered("{\"@level\":\"trace\",\"@message\":\"m\"}", GP_DEBUG), 0);
    assert_int_equal(filtered("{\"@level\":\"trace\", not json", GP_DEBUG), 1);
    assert_int_equal(filtered("{\"@level\":\"trace\", not json", GP_INFO), 0);
    assert_int_equal(filtered("plain", GP_INFO), 0);
    assert_int_equal(filtered("[WARN] tagged", GP_WARN), 1);
    assert_int_equal(filtered("[WARN] tagged", GP_ERROR), 0);
    /* A line that is left out still changes the state. */
    assert_int_equal(filtered("panic: x", GP_ERROR + 1), 0);
    assert_int_equal(filtered("plain", GP_ERROR), 1);
    assert_int_equal(filtered("{\"@level\":\"info\" broken", GP_ERROR), 1);
    assert_int_equal(filtered("{\"@level\":\"info\",\"@message\":\"m\"}", GP_ERROR), 0);
}

/* ---- The writer ---- */

static char *
format(const gp_hclog_entry *entry)
{
    static char line[2000];
    size_t len = gp_hclog_format(line, sizeof(line) - 1, entry);

    assert_true(len < sizeof(line));
    line[len] = '\0';
    return line;
}

static void
writing(void **state)
{
    const gp_log_field fields[] = {
        {"n", 1, "{\n\"a\": 1}", 9},
        {"@level", 6, "\"x\"", 3},
        {"k\"\xff", 3, "null", 4},
    };
    gp_hclog_entry entry = {
        .level = GP_WARN,
        .message = "a\"b\\c\n\r\t\x01\xff\xc3\xa9",
        .message_len = 12,
        .module = "m",
        .module_len = 1,
        .timestamp_us = INT64_C(1714972089123456),
        .fields = fields,
        .fields_count = 3,
    };

    (void)state;
    assert_string_equal(
        format(&entry),
        "{\"@level\":\"warn\",\"@message\":\"a\\\"b\\\\c\\n\\r\\t\\u0001\xef\xbf\xbd"
        "\xc3\xa9\",\"@module\":\"m\","
        "\"@timestamp\":\"2024-05-06T05:08:09.123456Z\","
        "\"n\":{ \"a\": 1},\"k\\\"\xef\xbf\xbd\":null}\n");
    entry = (gp_hclog_entry){.level = 0, .message = "", .timestamp_us = -1};
    assert_string_equal(format(&entry), "{\"@level\":\"trace\",\"@message\":\"\","
                                        "\"@timestamp\":\"1969-12-31T23:59:59.999999Z\"}\n");
    entry.level = 50;
    assert_non_null(strstr(format(&entry), "\"error\""));
    entry.level = 15;
    assert_non_null(strstr(format(&entry), "\"debug\""));
}

static void
writing_to_a_short_buffer(void **state)
{
    const gp_hclog_entry entry = {.level = GP_INFO, .message = "hello", .message_len = 5};
    char whole[200];
    size_t len = gp_hclog_format(whole, sizeof(whole), &entry);

    (void)state;
    assert_int_equal(gp_hclog_format(NULL, 0, &entry), len);
    for (size_t size = 0; size <= len; size++) {
        char *part = test_malloc(size > 0 ? size : 1);

        assert_int_equal(gp_hclog_format(part, size, &entry), len);
        assert_memory_equal(part, whole, size);
        test_free(part);
    }
}

static void
written_entries_can_be_read(void **state)
{
    const gp_log_field field = {"count", 5, "3", 1};
    const gp_hclog_entry entry = {
        .level = GP_ERROR,
        .message = "tab\there \xf0\x9f\x98\x80",
        .message_len = 13,
        .module = "a.b",
        .module_len = 3,
        .timestamp_us = INT64_C(1714972089000001),
        .fields = &field,
        .fields_count = 1,
    };
    char *line = format(&entry);
    gp_log_record record;

    (void)state;
    begin();
    record = parse_bytes(line, strlen(line) - 1);
    assert_record(&record, GP_ERROR, "tab\there \xf0\x9f\x98\x80");
    assert_run(record.module, record.module_len, "a.b");
    assert_field(&record, 0, "count", "3");
    assert_true(record.created > 1714972089.0 && record.created < 1714972089.00001);
}

/* ---- Allocation ---- */

static void
every_allocation_fails(void **state)
{
    static const char *const lines[] = {
        "plain",
        "{\"@level\":\"info\",\"@message\":\"m\",\"a\":1}",
        "{\"@level\":\"info\",\"@message\":\"m\",\"\\u0061\":{\"b\":[1,2,\"x\"]}}",
        "{\"@level\":\"info\",\"@message\":\"\xff\",\"a\":1}",
        "{\"@level\":\"info\",\"a\":[1,]}",
    };

    (void)state;
    begin();
    json_object_seed(1);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        long failing = 0;
        bool failed;

        do {
            gp__arena own = GP__ARENA_INIT;
            gp_log_record record;
            int rc;

            hclog = (gp__hclog){0};
            alloc_begin(failing++);
            json_set_alloc_funcs(gp__malloc, gp__free);
            rc = gp__hclog_parse(&hclog, &record, lines[i], strlen(lines[i]), GP_TRACE, &own);
            failed = alloc_failures() > 0;
            /* Without memory, a nested line may also be taken for a plain one. */
            assert_true(rc == 1 || (failed && rc == GP_ENOMEM));
            gp__arena_release(&own);
            json_set_alloc_funcs(malloc, free);
            alloc_end();
        } while (failed);
    }
}

static int
finish(void **state)
{
    (void)state;
    gp__arena_release(&arena);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_entry),
        cmocka_unit_test(levels),
        cmocka_unit_test(lines_that_are_no_entries_are_verbatim),
        cmocka_unit_test(an_entry_without_message),
        cmocka_unit_test(nested_values),
        cmocka_unit_test(many_fields),
        cmocka_unit_test(escapes),
        cmocka_unit_test(invalid_utf8_never_fails),
        cmocka_unit_test(invalid_timestamps_stay_fields),
        cmocka_unit_test(the_last_of_two_keys_counts),
        cmocka_unit_test(tagged_lines),
        cmocka_unit_test(a_panic_never_ends),
        cmocka_unit_test(a_traceback),
        cmocka_unit_test(chained_tracebacks),
        cmocka_unit_test(exception_groups),
        cmocka_unit_test(a_traceback_below_a_panic),
        cmocka_unit_test(thresholds),
        cmocka_unit_test(writing),
        cmocka_unit_test(writing_to_a_short_buffer),
        cmocka_unit_test(written_entries_can_be_read),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, finish);
}
