/*
 * Counts the callbacks of functions whose names end in _then, which run on the polling thread or on
 * the caller's own. A test gives one of the on_... functions as callback and a completions as its
 * context, and waits for it with await_completions().
 */
#ifndef GP_TESTS_COMPLETIONS_H
#define GP_TESTS_COMPLETIONS_H

#include "gp/lock.h"
#include "gp/message.h"
#include "support.h"

/* Tests read the fields after await_completions(), while no other callback can come. */
typedef struct completions {
    gp_mutex lock; /* guards all of it while callbacks may come */
    gp_cond changed;
    int times;           /* callbacks that ran */
    int failed;          /* sends that were not ok */
    int ends;            /* receives that found the end */
    gp_message *message; /* owned: the last one received, see on_received(); NULL: the end */
} completions;

void completions_init(completions *self);
void completions_release(completions *self);

void count_completion(completions *self);

/* Wait until |times| callbacks have run. */
void await_completions(completions *self, int times);

/* Callbacks: a gp_then and a gp_sent. (rpc_fixture.h has a gp_received.) */
void on_completed(void *ctx);
void on_sent(void *ctx, bool ok);

#endif
