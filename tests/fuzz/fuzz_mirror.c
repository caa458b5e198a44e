/*
 * How a plugin's output is cut into chunks must not make a difference. The first byte is the limit
 * of a line, the second seeds the cuts, the rest is the output.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/lines.h"

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static void
feed(gp__batch *batch, const char *bytes, size_t len, size_t limit, unsigned seed)
{
    gp__lines lines;

    gp__lines_init(&lines, limit);
    while (len > 0) {
        size_t chunk = len;

        if (seed != 0) {
            seed = seed * 1103515245 + 12345;
            chunk = 1 + (seed >> 16) % 13;
            chunk = chunk < len ? chunk : len;
        }
        gp__lines_feed(&lines, batch, bytes, chunk, GP_TRACE);
        bytes += chunk;
        len -= chunk;
    }
    gp__lines_finish(&lines, batch, GP_TRACE);
    CHECK(lines.lost == 0);
    gp__lines_release(&lines);
}

static void
compare(const gp_log_record *one, const gp_log_record *other)
{
    CHECK(one->level == other->level);
    CHECK(one->message_len == other->message_len);
    CHECK(memcmp(one->message, other->message, one->message_len) == 0);
    CHECK(one->fields_count == other->fields_count);
    CHECK(one->module_len == other->module_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp__batch *whole = gp__batch_new();
    gp__batch *cut = gp__batch_new();

    if (size > 2) {
        const char *bytes = (const char *)data + 2;
        size_t limit = 1 + data[0];

        feed(whole, bytes, size - 2, limit, 0);
        feed(cut, bytes, size - 2, limit, 1 + data[1]);
        CHECK(whole->count == cut->count);
        for (size_t i = 0; i < whole->count; i++) {
            compare(&whole->records[i], &cut->records[i]);
        }
    }
    gp__batch_free(whole);
    gp__batch_free(cut);
    return 0;
}
