#include "rpc/args.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "gp/error.h"
#include "os/rlimit.h"
#include "rpc/grpc_library.h"
#include "rpc/grpc_symbols.h"

/* ---- Objects ---- */

struct gp_arg_object {
    atomic_int refs;
    grpc_arg arg; /* owned: the pointer in it; has the key by which gRPC knows the object */
    size_t size;  /* bytes, if it is a memory quota; otherwise 0 */
    void (*release)(grpc_arg *arg);
};

static int
make_object(gp_arg_object **out, grpc_arg arg, void (*release)(grpc_arg *arg), gp_error *err)
{
    gp_arg_object *made = gp__calloc(1, sizeof(*made));

    if (made == NULL) {
        release(&arg);
        return gp_error_set(err, GP_ENOMEM, "out of memory for a channel argument");
    }
    atomic_init(&made->refs, 1);
    made->arg = arg;
    made->release = release;
    *out = made;
    return 0;
}

static void
release_quota(grpc_arg *arg)
{
    grpc_resource_quota_unref(arg->value.pointer.p);
}

int
gp_memory_quota_new(gp_arg_object **out, size_t bytes, gp_error *err)
{
    grpc_resource_quota *quota;
    grpc_arg arg = {.type = GRPC_ARG_POINTER, .key = (char *)(uintptr_t)"grpc.resource_quota"};
    int rc = gp__grpc_start(err);

    if (rc < 0) {
        return rc;
    }
    quota = grpc_resource_quota_create("pygo_plugin");
    grpc_resource_quota_resize(quota, bytes);
    arg.value.pointer.p = quota;
    arg.value.pointer.vtable = grpc_resource_quota_arg_vtable();
    rc = make_object(out, arg, release_quota, err);
    if (rc == 0) {
        (*out)->size = bytes;
    }
    return rc;
}

static gp_arg_object *process_quota; /* owned; NULL: none */

static void
make_process_quota(void)
{
    /*
     * The memory that is left at the first connection also has to hold the stacks and malloc arenas
     * of threads that start later, and more than one copy of each message on its way to the user.
     */
    enum { RESERVE = 256 << 20, SHARE = 8, LEAST = 1 << 20 };
    size_t left = gp__memory_left();
    size_t size = left > RESERVE ? (left - RESERVE) / SHARE : 0;

    size = size > LEAST ? size : LEAST;
    if (left != SIZE_MAX && gp_memory_quota_new(&process_quota, size, NULL) < 0) {
        process_quota = NULL;
    }
}

gp_arg_object *
gp__process_quota(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_process_quota);
    return process_quota;
}

static void
release_cache(grpc_arg *arg)
{
    grpc_ssl_session_cache_destroy(arg->value.pointer.p);
}

int
gp_session_cache_new(gp_arg_object **out, size_t capacity, gp_error *err)
{
    grpc_ssl_session_cache *cache;
    int rc = gp__grpc_start(err);

    if (rc < 0) {
        return rc;
    }
    cache = grpc_ssl_session_cache_create_lru(capacity);
    return make_object(out, grpc_ssl_session_cache_create_channel_arg(cache), release_cache, err);
}

gp_arg_object *
gp_arg_object_ref(gp_arg_object *object)
{
    atomic_fetch_add(&object->refs, 1);
    return object;
}

void
gp_arg_object_unref(gp_arg_object *object)
{
    if (object != NULL && !gp_runtime_forked() && atomic_fetch_sub(&object->refs, 1) == 1) {
        object->release(&object->arg);
        gp__free(object);
    }
}

/* ---- Copies ---- */

struct gp_channel_args {
    atomic_int refs;
    size_t count;
    gp_channel_arg items[]; /* each owns its strings, and a reference to its object */
};

static void
free_args(gp_channel_args *args)
{
    for (size_t i = 0; i < args->count; i++) {
        gp__free((char *)(uintptr_t)args->items[i].key);
        gp__free((char *)(uintptr_t)args->items[i].string);
        gp_arg_object_unref(args->items[i].object);
    }
    gp__free(args);
}

/*
 * Returns false when memory is short; |out| is then complete, with NULL in place of the string that
 * could not be copied.
 */
static bool
copy_arg(gp_channel_arg *out, const gp_channel_arg *from)
{
    *out = *from;
    out->key = gp__strdup(from->key);
    out->string = from->string != NULL ? gp__strdup(from->string) : NULL;
    out->object = from->object != NULL ? gp_arg_object_ref(from->object) : NULL;
    return out->key != NULL && (from->string == NULL || out->string != NULL);
}

int
gp_channel_args_new(gp_channel_args **out, const gp_channel_arg *args, size_t count, gp_error *err)
{
    gp_channel_args *made = gp__calloc(1, sizeof(*made) + count * sizeof(*args));
    bool copied = made != NULL;

    while (copied && made->count < count) {
        copied = copy_arg(&made->items[made->count], &args[made->count]);
        made->count++;
    }
    if (!copied) {
        if (made != NULL) {
            free_args(made);
        }
        return gp_error_set(err, GP_ENOMEM, "out of memory for channel arguments");
    }
    atomic_init(&made->refs, 1);
    *out = made;
    return 0;
}

gp_channel_args *
gp_channel_args_ref(gp_channel_args *args)
{
    atomic_fetch_add(&args->refs, 1);
    return args;
}

void
gp_channel_args_unref(gp_channel_args *args)
{
    if (args != NULL && atomic_fetch_sub(&args->refs, 1) == 1) {
        free_args(args);
    }
}

const gp_channel_arg *
gp__channel_args_items(const gp_channel_args *args, size_t *count)
{
    *count = args != NULL ? args->count : 0;
    return args != NULL ? args->items : NULL;
}

/* ---- Looking arguments up ---- */

/* The last argument called |key|; NULL if there is none. */
static const gp_channel_arg *
find_arg(const gp_channel_arg *args, size_t count, const char *key)
{
    for (size_t i = count; i > 0; i--) {
        if (strcmp(args[i - 1].key, key) == 0) {
            return &args[i - 1];
        }
    }
    return NULL;
}

bool
gp__arg_is_given(const gp_channel_arg *args, size_t count, const char *key)
{
    return find_arg(args, count, key) != NULL;
}

static bool
is_integer(const gp_channel_arg *arg)
{
    return arg->string == NULL && arg->object == NULL && !arg->is_address;
}

int
gp__arg_integer(const gp_channel_arg *args, size_t count, const char *key, int otherwise)
{
    const gp_channel_arg *found = find_arg(args, count, key);

    return found != NULL && is_integer(found) ? found->integer : otherwise;
}

size_t
gp__unpack_limit(const gp_channel_arg *args, size_t count, int otherwise)
{
    const gp_channel_arg *given = find_arg(args, count, "grpc.resource_quota");
    const gp_arg_object *quota = given != NULL ? given->object : gp__process_quota();
    int most = gp__arg_integer(args, count, "grpc.max_receive_message_length", otherwise);
    size_t limit = most >= 0 ? (size_t)most : SIZE_MAX;

    if (gp__arg_is_given(args, count, "grpc.per_message_decompression")) {
        return 0;
    }
    if (quota != NULL && quota->size > 0 && quota->size < limit) {
        limit = quota->size;
    }
    return limit > 0 ? limit : 1;
}

const char *
gp__arg_string(const gp_channel_arg *args, size_t count, const char *key)
{
    const gp_channel_arg *found = find_arg(args, count, key);

    return found != NULL ? found->string : NULL;
}

/* ---- Converting to gRPC's arguments ---- */

static void *
copy_address(void *address)
{
    return address;
}

static void
destroy_address(void *address)
{
    (void)address;
}

static int
compare_addresses(void *first, void *second)
{
    return first < second ? -1 : first > second;
}

static grpc_arg
convert_arg(const gp_channel_arg *arg)
{
    static const grpc_arg_pointer_vtable addresses = {copy_address, destroy_address,
                                                      compare_addresses};
    /* gRPC does not write to the strings, although its struct is not const. */
    grpc_arg made = {.key = (char *)(uintptr_t)arg->key};

    if (arg->string != NULL) {
        made.type = GRPC_ARG_STRING;
        made.value.string = (char *)(uintptr_t)arg->string;
    } else if (arg->object != NULL) {
        made.type = GRPC_ARG_POINTER;
        made.value.pointer = arg->object->arg.value.pointer;
    } else if (arg->is_address) {
        made.type = GRPC_ARG_POINTER;
        made.value.pointer.p = arg->address;
        made.value.pointer.vtable = &addresses;
    } else {
        made.type = GRPC_ARG_INTEGER;
        made.value.integer = arg->integer;
    }
    return made;
}

int
gp__args_merge(grpc_channel_args *out, const gp_channel_arg *own, size_t own_count,
               const gp_channel_arg *more, size_t more_count)
{
    *out = (grpc_channel_args){0, NULL};
    out->args = gp__calloc(own_count + more_count + 1, sizeof(*out->args));
    if (out->args == NULL) {
        return GP_ENOMEM;
    }
    /* Each key once: which of two arguments with one key counts depends on gRPC's version. */
    for (size_t i = 0; i < own_count; i++) {
        if (find_arg(more, more_count, own[i].key) == NULL) {
            out->args[out->num_args++] = convert_arg(&own[i]);
        }
    }
    for (size_t i = 0; i < more_count; i++) {
        if (find_arg(more, more_count, more[i].key) == &more[i]) {
            out->args[out->num_args++] = convert_arg(&more[i]);
        }
    }
    return 0;
}
