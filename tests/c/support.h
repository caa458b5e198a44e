/*
 * What the C tests share: an allocator that fails on demand, files to execute, and a log sink that
 * remembers. Nothing here sleeps; waits have deadlines and fail the test when they pass.
 */
#ifndef GP_TESTS_SUPPORT_H
#define GP_TESTS_SUPPORT_H

/* What cmocka.h needs before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdbool.h>
#include <cmocka.h>

#include "base/thread.h"
#include "gp/lock.h"
#include "gp/log.h"

/* Far beyond what anything takes, even under valgrind on a busy machine. */
#define PATIENCE_MS 60000

/*
 * How often to do what needs luck to fail: |usual|, or that many percent of it as the environment
 * has in GP_TEST_ROUNDS, where a round takes long.
 */
int rounds(int usual);

/* ---- Allocation ---- */

/*
 * Count what is allocated from now on; allocation number |failing| (from 0) fails, negative: none.
 */
void alloc_begin(long failing);

/*
 * Wait until all of them are freed (a thread of the library may be at it), and go back to the C
 * library. Returns how many allocations there were; fails the test if any stays.
 */
long alloc_end(void);

/* How many of the allocations so far have failed. */
long alloc_failures(void);

/* ---- Files ---- */

/* A private directory for the whole test program, removed by remove_directory(). */
const char *make_directory(void);
void remove_directory(void);

/* Write an executable file there. Returns its path, which lives until the next 16 calls. */
const char *make_file(const char *name, const char *text, unsigned mode);

/* ---- What a group of tests ends with, for cmocka ---- */

int tear_down_directory(void **state);
int tear_down_reactor(void **state);

/* ---- Log sinks ---- */

typedef struct recorded {
    int level;
    char *message;
    size_t message_len;
    double created;
    size_t fields;
} recorded;

/* Remembers what was delivered, and blocks the delivery on request. */
typedef struct recorder {
    gp_mutex lock;
    gp_cond changed;
    recorded *records;
    size_t count;
    char *raw;
    size_t raw_len;
    bool skipped;
    bool blocked; /* deliver waits while it is set */
    bool entered; /* deliver has been called */
    int released;
    int level; /* what deliver answers */
} recorder;

void recorder_init(recorder *rec, int level);
void recorder_release(recorder *rec);
gp_log_sink recorder_sink(recorder *rec, bool want_raw);
void recorder_block(recorder *rec, bool blocked);
void recorder_await_entered(recorder *rec);
void recorder_await_count(recorder *rec, size_t count);
void recorder_await_released(recorder *rec);

/* Whether a record has that level and that whole message. */
bool recorder_has(recorder *rec, int level, const char *message);

/* ---- Waiting ---- */

int64_t patience(void);

/* Whether valgrind runs the test: it can't go on after some execs that fail. */
bool under_valgrind(void);

/* An interrupt that says stop at once. */
extern const gp_interrupt interrupt_now;

#endif
