/* Any bytes as lines of a plugin's stderr; and what we write ourselves has to be read back. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/hclog.h"
#include "wire/json.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static bool
is_level(int level)
{
    return level == GP_TRACE || level == GP_DEBUG || level == GP_INFO || level == GP_WARN ||
           level == GP_ERROR;
}

/* Fields are JSON text and valid UTF-8, whatever the line held. */
static void
check_record(const gp_log_record *record)
{
    CHECK(is_level(record->level) && record->message != NULL);
    for (size_t i = 0; i < record->fields_count; i++) {
        const gp_log_field *field = &record->fields[i];

        CHECK(gp__utf8_valid(field->key, field->key_len));
        CHECK(field->json_len > 0 && gp__utf8_valid(field->json, field->json_len));
    }
}

static size_t
count(const char *bytes, size_t len, const char *any)
{
    size_t found = 0;

    for (size_t i = 0; i < len; i++) {
        found += bytes[i] != '\0' && strchr(any, bytes[i]) != NULL;
    }
    return found;
}

/*
 * The scanner against jansson, on what both should see alike: they differ on purpose about escapes,
 * about numbers beyond a double, and about nesting beyond a depth. And jansson passes over a zero
 * byte behind a number.
 */
static void
compare_readers(const char *bytes, size_t len)
{
    gp__arena arena = GP__ARENA_INIT;
    gp__json_scanner scanner;
    gp__json_member member;
    gp__json_member *members;
    ptrdiff_t scanned = 0;
    ptrdiff_t read;
    int rc;

    if (len == 0 || len > 300 || bytes[0] != '{' || !gp__utf8_valid(bytes, len) ||
        memchr(bytes, '\0', len) != NULL || count(bytes, len, "\\eE") > 0 ||
        count(bytes, len, "{[") > 16) {
        return;
    }
    gp__json_scan(&scanner, bytes, len);
    while ((rc = gp__json_scan_next(&scanner, &member)) == 1) {
        scanned++;
    }
    read = gp__json_object(&members, bytes, len, &arena);
    CHECK((rc == 0) == (read >= 0));
    CHECK(read <= scanned || rc < 0); /* of equal keys only jansson drops all but one */
    gp__arena_release(&arena);
}

static void
round_trip(const char *bytes, size_t len)
{
    const gp_hclog_entry entry = {
        .level = GP_INFO,
        .message = bytes,
        .message_len = len,
        .module = bytes,
        .module_len = len,
    };
    size_t need = gp_hclog_format(NULL, 0, &entry);
    char *line = malloc(need);
    char *expected = malloc(len * 3 + 1);
    size_t expected_len = gp__utf8_repair(expected, bytes, len);
    gp__arena arena = GP__ARENA_INIT;
    gp__hclog hclog = {0};
    gp_log_record record;

    CHECK(gp_hclog_format(line, need, &entry) == need && line[need - 1] == '\n');
    CHECK(memchr(line, '\n', need - 1) == NULL);
    CHECK(gp__hclog_parse(&hclog, &record, line, need - 1, GP_TRACE, &arena) == 1);
    CHECK(record.level == GP_INFO && record.fields_count == 0);
    CHECK(record.message_len == expected_len && record.module_len == expected_len);
    CHECK(memcmp(record.message, expected, expected_len) == 0);
    gp__arena_release(&arena);
    free(expected);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int thresholds[] = {GP_TRACE, GP_INFO, GP_ERROR};
    const char *bytes = (const char *)data;

    for (size_t i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++) {
        gp__arena arena = GP__ARENA_INIT;
        gp__hclog hclog = {0};
        const char *at = bytes;
        size_t left = size;

        while (left > 0) {
            const char *newline = memchr(at, '\n', left);
            size_t len = newline != NULL ? (size_t)(newline - at) : left;
            gp_log_record record;
            int rc = gp__hclog_parse(&hclog, &record, at, len, thresholds[i], &arena);

            CHECK(rc == 0 || rc == 1);
            if (rc == 1) {
                CHECK(record.level >= thresholds[i]);
                check_record(&record);
            }
            if (i == 0) {
                CHECK(rc == 1);
                compare_readers(at, len);
            }
            left -= newline != NULL ? len + 1 : len;
            at += len + 1;
        }
        gp__arena_release(&arena);
    }
    round_trip(bytes, size);
    return 0;
}
