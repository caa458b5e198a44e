#include "support.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

/* ---- Allocation ---- */

static atomic_long made;
static atomic_long living;
static atomic_long failures;
static atomic_long fail_at;

static void *
counting_realloc(void *ptr, size_t size)
{
    void *result;

    if (atomic_fetch_add(&made, 1) == atomic_load(&fail_at)) {
        atomic_fetch_add(&failures, 1);
        return NULL;
    }
    result = realloc(ptr, size);
    if (ptr == NULL && result != NULL) {
        atomic_fetch_add(&living, 1);
    }
    return result;
}

static void
counting_free(void *ptr)
{
    atomic_fetch_sub(&living, 1);
    free(ptr);
}

void
alloc_begin(long failing)
{
    static const gp__allocator counting = {counting_realloc, counting_free};

    atomic_store(&made, 0);
    atomic_store(&living, 0);
    atomic_store(&failures, 0);
    atomic_store(&fail_at, failing);
    gp__set_allocator(&counting);
}

long
alloc_end(void)
{
    gp__set_allocator(NULL);
    assert_int_equal(atomic_load(&living), 0);
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
    pthread_mutex_init(&rec->lock, NULL);
    assert_int_equal(gp__cond_init(&rec->changed), 0);
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
    pthread_cond_destroy(&rec->changed);
    pthread_mutex_destroy(&rec->lock);
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

    pthread_mutex_lock(&rec->lock);
    rec->entered = true;
    pthread_cond_broadcast(&rec->changed);
    while (rec->blocked) {
        pthread_cond_wait(&rec->changed, &rec->lock);
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
    pthread_cond_broadcast(&rec->changed);
    pthread_mutex_unlock(&rec->lock);
    return level;
}

static void
count_release(void *ctx)
{
    recorder *rec = ctx;

    pthread_mutex_lock(&rec->lock);
    rec->released++;
    pthread_cond_broadcast(&rec->changed);
    pthread_mutex_unlock(&rec->lock);
}

gp_log_sink
recorder_sink(recorder *rec, bool want_raw)
{
    return (gp_log_sink){deliver, count_release, rec, want_raw, rec->level};
}

void
recorder_block(recorder *rec, bool blocked)
{
    pthread_mutex_lock(&rec->lock);
    rec->blocked = blocked;
    pthread_cond_broadcast(&rec->changed);
    pthread_mutex_unlock(&rec->lock);
}

void
recorder_await_entered(recorder *rec)
{
    int64_t deadline = patience();
    int rc = 0;

    pthread_mutex_lock(&rec->lock);
    while (!rec->entered && rc == 0) {
        rc = gp__cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    pthread_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

void
recorder_await_count(recorder *rec, size_t count)
{
    int64_t deadline = patience();
    int rc = 0;

    pthread_mutex_lock(&rec->lock);
    while (rec->count < count && rc == 0) {
        rc = gp__cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    pthread_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

void
recorder_await_released(recorder *rec)
{
    int64_t deadline = patience();
    int rc = 0;

    pthread_mutex_lock(&rec->lock);
    while (rec->released == 0 && rc == 0) {
        rc = gp__cond_wait_until(&rec->changed, &rec->lock, deadline);
    }
    pthread_mutex_unlock(&rec->lock);
    assert_int_equal(rc, 0);
}

bool
recorder_has(recorder *rec, int level, const char *message)
{
    bool found = false;

    pthread_mutex_lock(&rec->lock);
    for (size_t i = 0; i < rec->count && !found; i++) {
        found = rec->records[i].level == level && strcmp(rec->records[i].message, message) == 0;
    }
    pthread_mutex_unlock(&rec->lock);
    return found;
}

/* ---- Waiting ---- */

int64_t
patience(void)
{
    return gp__deadline_in(PATIENCE_MS);
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

const gp_interrupt interrupt_now = {stop, NULL};
