#include "support.h"
#include "gp/lock.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/reactor.h"

int
rounds(int usual)
{
    const char *percent = getenv("GP_TEST_ROUNDS");
    int number = percent != NULL ? usual * atoi(percent) / 100 : usual;

    return number > 0 ? number : 1;
}

/* ---- Allocation ---- */

/*
 * The blocks that are there are remembered one by one: threads of an earlier test may still free
 * what that one allocated, which is none of the present one's business.
 */
static struct {
    gp_mutex lock;
    gp_cond freed;
    bool ready;
    void **blocks;
    size_t count;
    size_t capacity;
} living = {.lock = GP_MUTEX_INIT};

static atomic_long made;
static atomic_long failures;
static atomic_long fail_at;

static void
remember_block(void *ptr)
{
    if (living.count == living.capacity) {
        living.capacity = living.capacity > 0 ? 2 * living.capacity : 256;
        living.blocks = realloc(living.blocks, living.capacity * sizeof(*living.blocks));
        if (living.blocks == NULL) {
            abort();
        }
    }
    living.blocks[living.count++] = ptr;
}

/* False if |ptr| is not from this test. The newest are looked at first: they go first. */
static bool
forget_block(const void *ptr)
{
    for (size_t i = living.count; i-- > 0;) {
        if (living.blocks[i] == ptr) {
            living.blocks[i] = living.blocks[--living.count];
            gp_cond_broadcast(&living.freed);
            return true;
        }
    }
    return false;
}

static void *
counting_realloc(void *ptr, size_t size)
{
    void *result;
    bool ours;

    if (atomic_fetch_add(&made, 1) == atomic_load(&fail_at)) {
        atomic_fetch_add(&failures, 1);
        return NULL;
    }
    gp_mutex_lock(&living.lock);
    ours = ptr == NULL || forget_block(ptr);
    result = realloc(ptr, size);
    if (ours && (result != NULL || ptr != NULL)) {
        remember_block(result != NULL ? result : ptr);
    }
    gp_mutex_unlock(&living.lock);
    return result;
}

static void
counting_free(void *ptr)
{
    gp_mutex_lock(&living.lock);
    (void)forget_block(ptr);
    free(ptr);
    gp_mutex_unlock(&living.lock);
}

void
alloc_begin(long failing)
{
    static const gp__allocator counting = {counting_realloc, counting_free};

    if (!living.ready) {
        gp_cond_init(&living.freed);
        living.ready = true;
    }
    gp_mutex_lock(&living.lock);
    living.count = 0;
    gp_mutex_unlock(&living.lock);
    atomic_store(&made, 0);
    atomic_store(&failures, 0);
    atomic_store(&fail_at, failing);
    gp__set_allocator(&counting);
}

long
alloc_end(void)
{
    int64_t deadline = patience();
    size_t left;

    gp_mutex_lock(&living.lock);
    while (living.count > 0 && gp_cond_wait_until(&living.freed, &living.lock, deadline) == 0) {
    }
    left = living.count;
    gp_mutex_unlock(&living.lock);
    gp__set_allocator(NULL);
    assert_int_equal(left, 0);
    return atomic_load(&made);
}

long
alloc_failures(void)
{
    return atomic_load(&failures);
}

/* ---- Files ---- */

static char directory[64];

const char *
make_directory(void)
{
    if (directory[0] == '\0') {
        snprintf(directory, sizeof(directory), "/tmp/gp-test-XXXXXX");
        assert_non_null(mkdtemp(directory));
    }
    return directory;
}

void
remove_directory(void)
{
    DIR *listing = directory[0] != '\0' ? opendir(directory) : NULL;
    struct dirent *entry;
    char path[400];

    if (listing == NULL) {
        return;
    }
    while ((entry = readdir(listing)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        if (unlink(path) < 0) {
            rmdir(path);
        }
    }
    closedir(listing);
    rmdir(directory);
    directory[0] = '\0';
}

int
tear_down_directory(void **state)
{
    (void)state;
    remove_directory();
    return 0;
}

int
tear_down_reactor(void **state)
{
    (void)state;
    gp__reactor_stop();
    return 0;
}

const char *
make_file(const char *name, const char *text, unsigned mode)
{
    static char paths[16][200];
    static unsigned turn;
    char *path = paths[turn++ % 16];
    FILE *file;

    snprintf(path, 200, "%s/%s", make_directory(), name);
    file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

/* ---- Log sinks ---- */

void
recorder_init(recorder *rec, int level)
{
    memset(rec, 0, sizeof(*rec));
    gp_mutex_init(&rec->lock);
    gp_cond_init(&rec->changed);
    rec->level = level;
}

void
recorder_release(recorder *rec)
{
    for (size_t i = 0; i < rec->count; i++) {
        free(rec->records[i].message);
    }
    free(rec->records);
    free(rec->raw);
    gp_cond_release(&rec->changed);
    gp_mutex_release(&rec->lock);
}

static void
remember(recorder *rec, const gp_log_record *record)
{
    recorded *kept;

    rec->records = realloc(rec->records, (rec->count + 1) * sizeof(*rec->records));
    kept = &rec->records[rec->count++];
    *kept = (recorded){record->level, malloc(record->message_len + 1), record->message_len,
                       record->created, record->fields_count};
    memcpy(kept->message, record->message, record->message_len);
    kept->message[record->message_len] = '\0';
}

static int
deliver(void *ctx, const gp_log_batch *batch)
{
    recorder *rec = ctx;
    int level;

    gp_mutex_lock(&rec->lock);
    rec->entered = true;
    gp_cond_broadcast(&rec->changed);
    while (rec->blocked) {
        gp_cond_wait(&rec->changed, &rec->lock);
    }
    for (size_t i = 0; i < batch->records_count; i++) {
        remember(rec, &batch->records[i]);
    }
    if (batch->raw != NULL) {
        rec->raw = realloc(rec->raw, rec->raw_len + batch->raw_len + 1);
        memcpy(rec->raw + rec->raw_len, batch->raw, batch->raw_len);
        rec->raw_len += batch->raw_len;
    }
    rec->skipped = rec->skipped || batch->skipped;
    level = rec->level;
    gp_cond_broadcast(&rec->changed);
    gp_mutex_unlock(&rec->lock);
    return level;
}

static void
count_release(void *ctx)
{
    recorder *rec = ctx;

    gp_mutex_lock(&rec->lock);
    rec->released++;
    gp_cond_broadcast(&rec->changed);
    gp_mutex_unlock(&rec->lock);
}

gp_log_sink
recorder_sink(recorder *rec, bool want_raw)
{
    return (gp_log_sink){deliver, count_release, rec, want_raw, rec->level};
}

void
recorder_block(recorder *rec, bool blocked)
{
    gp_mutex_lock(&rec->lock);
    rec->blocked = blocked;
    gp_cond_broadcast(&rec->changed);
    gp_mutex_unlock(&rec->lock);
}

void
recorder_await_entered(recorder *rec)
{
    int64_t deadline = patience();
    int rc = 0;

    gp_mutex_lock(&rec->lock);
    while (!rec->entered && rc == 0) {
        rc = gp_cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    gp_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

void
recorder_await_count(recorder *rec, size_t count)
{
    int64_t deadline = patience();
    int rc = 0;

    gp_mutex_lock(&rec->lock);
    while (rec->count < count && rc == 0) {
        rc = gp_cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    gp_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

void
recorder_await_released(recorder *rec)
{
    int64_t deadline = patience();
    int rc = 0;

    gp_mutex_lock(&rec->lock);
    while (rec->released == 0 && rc == 0) {
        rc = gp_cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    gp_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

bool
recorder_has(recorder *rec, int level, const char *message)
{
    bool found = false;

    gp_mutex_lock(&rec->lock);
    for (size_t i = 0; i < rec->count && !found; i++) {
        found = rec->records[i].level == level && strcmp(rec->records[i].message, message) == 0;
    }
    gp_mutex_unlock(&rec->lock);
    return found;
}

/* ---- Waiting ---- */

int64_t
patience(void)
{
    return gp_deadline_in(PATIENCE_MS);
}

bool
under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD");

    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

static int
stop(void *ctx)
{
    (void)ctx;
    return 1;
}

const gp_interrupt interrupt_now = {.check = stop};
