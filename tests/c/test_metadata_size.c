#include <string.h>

#include "base/alloc.h"
#include "gp/channel.h"
#include "rpc/args.h"
#include "rpc/metadata_size.h"
#include "support.h"

static gp_bytes
text(const char *s)
{
    return (gp_bytes){s, strlen(s)};
}

static void
the_user_agent_carries_the_limit(void **state)
{
    char *own = gp__user_agent(NULL, "grpc-python", 4711);
    char *added = gp__user_agent("mine", "grpc-python-asyncio", 1);

    (void)state;
    assert_memory_equal(own, "grpc-python/", 12);
    assert_int_equal(gp__metadata_size_of(text(own), 1), 4711);
    assert_memory_equal(added, "mine grpc-python-asyncio/", 25);
    assert_int_equal(gp__metadata_size_of(text(added), 7), 1);
    gp__free(own);
    gp__free(added);

    assert_int_equal(gp__metadata_size_of(text("grpc-go/1.60.0"), 1), GP__METADATA_SIZE_GO);
    assert_int_equal(gp__metadata_size_of(text("mine grpc-go/1.60.0"), 1), GP__METADATA_SIZE_GO);
    assert_int_equal(gp__metadata_size_of(text("grpc-python/1.60 grpc-c/40 (linux; chttp2)"), 1),
                     1);
    assert_int_equal(gp__metadata_size_of(text(""), 1), 1);
    /* Malformed, as a hostile client may send it. */
    assert_int_equal(gp__metadata_size_of(text("pygo-plugin (max_metadata_size="), 1), 0);
    assert_int_equal(gp__metadata_size_of(text("pygo-plugin (max_metadata_size=x)"), 1), 0);
    assert_true(gp__metadata_size_of(
                    text("pygo-plugin (max_metadata_size=99999999999999999999999999)"), 1) > 0);
}

/* What becomes of |details| for a client that accepts |size| bytes. Owned by the caller. */
static char *
within(const char *details, size_t len, size_t size, gp_metadata trailing)
{
    char *cut;
    gp_bytes kept = gp__details_within((gp_bytes){details, len}, trailing, size, &cut);
    char *copy = gp__memdup(kept.data, kept.len);

    assert_int_equal(cut != NULL, kept.data != details);
    gp__free(cut);
    return copy;
}

static void
details_are_cut_to_what_the_client_accepts(void **state)
{
    const gp_metadatum item = {text("key"), {NULL, 1000}};
    const gp_metadata none = {NULL, 0};
    const gp_metadata some = {&item, 1};
    static char plain[5000];
    static char wide[5000];
    static char escaped[5000];
    char *kept;

    (void)state;
    memset(plain, 'x', sizeof(plain));
    memset(escaped, '\n', sizeof(escaped));
    for (size_t i = 0; i < sizeof(wide); i += 2) {
        memcpy(wide + i, "\xc3\xa9", 2);
    }
    kept = within(plain, 5000, 8192, none);
    assert_int_equal(strlen(kept), 5000);
    gp__free(kept);

    kept = within(plain, 5000, 4096, none);
    assert_memory_equal(kept, plain, 3000);
    assert_non_null(strstr(kept, "x... [cut: 5000 bytes in all, more than the client accepts]"));
    assert_true(strlen(kept) <= 4096 - 512);
    gp__free(kept);

    /* Each byte is sent as three, and a character is not cut in two. */
    for (size_t size = 2000; size < 2010; size++) {
        kept = within(wide, 5000, size, none);
        assert_non_null(strstr(kept, "\xc3\xa9... [cut: 5000 bytes"));
        assert_true(strlen(kept) < 600);
        gp__free(kept);
    }
    kept = within(escaped, 2000, 8192, none);
    assert_int_equal(strlen(kept), 2000);
    gp__free(kept);
    kept = within(escaped, 5000, 8192, none);
    assert_true(strlen(kept) < 8192 / 3);
    gp__free(kept);

    /* The trailing metadata's size is subtracted first. */
    kept = within(plain, 3000, 4096, none);
    assert_int_equal(strlen(kept), 3000);
    gp__free(kept);
    kept = within(plain, 3000, 4096, some);
    assert_true(strlen(kept) < 3000);
    gp__free(kept);
    kept = within(plain, 3000, 0, some);
    assert_memory_equal(kept, "... [cut: 3000 bytes in all", 27);
    gp__free(kept);
    kept = within(plain, 0, 0, some);
    assert_string_equal(kept, "");
    gp__free(kept);
}

static void
the_last_argument_of_a_name_counts(void **state)
{
    const gp_channel_arg own[] = {{.key = "a", .integer = 1}, {.key = "b", .integer = 2}};
    const gp_channel_arg more[] = {{.key = "b", .integer = 3},
                                   {.key = "c", .string = "first"},
                                   {.key = "c", .string = "last"},
                                   {.key = "d", .address = &state, .is_address = true}};
    gp_channel_args *copied = NULL;
    const gp_channel_arg *items;
    grpc_channel_args merged;
    size_t count;

    (void)state;
    assert_int_equal(gp_channel_args_new(&copied, more, 4, NULL), 0);
    items = gp__channel_args_items(copied, &count);
    assert_int_equal(count, 4);
    assert_ptr_not_equal(items[1].string, more[1].string);
    assert_int_equal(gp__arg_integer(items, count, "b", 0), 3);
    assert_int_equal(gp__arg_integer(items, count, "c", 9), 9);
    assert_int_equal(gp__arg_integer(items, count, "d", 9), 9);
    assert_string_equal(gp__arg_string(items, count, "c"), "last");
    assert_null(gp__arg_string(items, count, "x"));

    assert_int_equal(gp__args_merge(&merged, own, 2, items, count), 0);
    assert_int_equal(merged.num_args, 4);
    assert_string_equal(merged.args[0].key, "a");
    assert_int_equal(merged.args[1].value.integer, 3);
    assert_string_equal(merged.args[2].value.string, "last");
    assert_int_equal(merged.args[3].type, GRPC_ARG_POINTER);
    assert_ptr_equal(merged.args[3].value.pointer.p, &state);
    gp__free(merged.args);
    gp_channel_args_unref(gp_channel_args_ref(copied));
    gp_channel_args_unref(copied);
}

static void
arguments_may_be_objects(void **state)
{
    gp_channel_args *args = NULL;
    gp_channel_arg items[] = {{.key = "grpc.resource_quota"}, {.key = "grpc.ssl_session_cache"}};
    grpc_channel_args merged;

    (void)state;
    assert_int_equal(gp_memory_quota_new(&items[0].object, 1 << 20, NULL), 0);
    assert_int_equal(gp_session_cache_new(&items[1].object, 2, NULL), 0);
    assert_int_equal(gp_channel_args_new(&args, items, 2, NULL), 0);
    assert_int_equal(gp__args_merge(&merged, NULL, 0, items, 2), 0);
    assert_int_equal(merged.args[0].type, GRPC_ARG_POINTER);
    assert_non_null(merged.args[0].value.pointer.p);
    assert_non_null(merged.args[1].value.pointer.vtable);
    gp__free(merged.args);
    gp_arg_object_unref(items[0].object);
    gp_arg_object_unref(items[1].object);
    gp_channel_args_unref(args);
}

static void
memory_runs_out(void **state)
{
    static const gp_channel_arg items[] = {{.key = "a", .string = "b"}, {.key = "c"}};
    static char plain[5000];
    bool failed = true;

    (void)state;
    memset(plain, 'x', sizeof(plain));
    for (long failing = 0; failed; failing++) {
        gp_channel_args *args = NULL;
        char *cut = NULL;
        gp_bytes kept;

        alloc_begin(failing);
        if (gp_channel_args_new(&args, items, 2, NULL) == 0) {
            gp_channel_args_unref(args);
        }
        kept = gp__details_within((gp_bytes){plain, 5000}, (gp_metadata){NULL, 0}, 2000, &cut);
        assert_true(cut != NULL || kept.data == plain);
        gp__free(cut);
        failed = alloc_failures() > 0;
        alloc_end();
    }
}

static int
load_grpc(void **state)
{
    (void)state;
    return gp__grpc_load(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_user_agent_carries_the_limit),
        cmocka_unit_test(details_are_cut_to_what_the_client_accepts),
        cmocka_unit_test(the_last_argument_of_a_name_counts),
        cmocka_unit_test(arguments_may_be_objects),
        cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, load_grpc, NULL);
}
