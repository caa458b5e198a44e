#include <string.h>

#include "support.h"
#include "wire/json.h"

/* Where what both readers found lives for the time of one comparison. */
static gp__arena arena;

/* Strings are compared decoded, since jansson may escape them differently. */
static void
assert_same_member(gp__json_member *scanned, const gp__json_member *read)
{
    assert_int_equal(scanned->key.len, read->key.len);
    assert_memory_equal(scanned->key.data, read->key.data, read->key.len);
    assert_int_equal(scanned->string.data == NULL, read->string.data == NULL);
    if (scanned->string.data != NULL) {
        char *decoded = gp__arena_copy(&arena, scanned->string.data, scanned->string.len);

        assert_int_equal(gp__json_decode(decoded, scanned->string.len), read->string.len);
        assert_memory_equal(decoded, read->string.data, read->string.len);
    } else {
        assert_int_equal(scanned->json.len, read->json.len);
        assert_memory_equal(scanned->json.data, read->json.data, read->json.len);
    }
}

static void
both_readers_agree(void **state)
{
    static const char *const objects[] = {
        "{}",
        "{\"a\":1}",
        "{\"a\":\"b\\u00e9\\n\",\"c\":\"\"}",
        "{ \"a\" : null , \"b\" : false }",
        "{\"a\":-12,\"b\":0,\"\":\"x\"}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}}",
        "{\"a\":\"\\q\"}",
        "{\"a\":00}",
        "{\"a\":\"\x01\"}",
        "{\"a\":+1}",
        "{\"a\":[1,[2,{\"b\":[]}],\"x\"],\"c\":{\"d\":null,\"e\":{}}}",
        "{\"a\":[1,]}",
        "{\"a\":[,]}",
        "{\"a\":[1}",
        "{\"a\":{\"b\":1]}",
        "{\"a\":{\"b\"}}",
        "{\"a\":{1:2}}",
        "{\"a\":[",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        gp__json_scanner scanner;
        gp__json_member member;
        gp__json_member *members;
        ptrdiff_t count;
        ptrdiff_t scanned = 0;
        int rc;

        count = gp__json_object(&members, objects[i], strlen(objects[i]), &arena);
        gp__json_scan(&scanner, objects[i], strlen(objects[i]));
        while ((rc = gp__json_scan_next(&scanner, &member)) == 1) {
            if (scanned < count) {
                assert_same_member(&member, &members[scanned]);
            }
            scanned++;
        }
        if ((count < 0) != (rc < 0) || (rc == 0 && count != scanned)) {
            fail_msg("%s: jansson %td, scanner %d with %td", objects[i], count, rc, scanned);
        }
        gp__arena_release(&arena);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_readers_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
