/* What the polling thread has told a test, for functions whose names end in _then. */
#ifndef TOLD_H
#define TOLD_H

#include <string.h>

#include "gp/lock.h"
#include "gp/message.h"
#include "support.h"

/* What the polling thread has told. */
typedef struct told {
    gp_mutex lock;
    gp_cond changed;
    int times;
    int failed;          /* sends that were not ok */
    int ends;            /* receives that found the end */
    gp_message *message; /* owned: the last one */
} told;

static inline void
told_init(told *self)
{
    memset(self, 0, sizeof(*self));
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
}

static inline void
told_release(told *self)
{
    gp_message_free(self->message);
    gp_cond_release(&self->changed);
    gp_mutex_release(&self->lock);
}

static inline void
note(told *self)
{
    gp_mutex_lock(&self->lock);
    self->times++;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

static inline void
await_told(told *self, int times)
{
    int64_t deadline = patience();

    gp_mutex_lock(&self->lock);
    while (self->times < times) {
        assert_int_equal(gp__cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
}

static inline void
then(void *ctx)
{
    note(ctx);
}

static inline void
then_sent(void *ctx, bool ok)
{
    ((told *)ctx)->failed += !ok;
    note(ctx);
}

static inline void
then_received(void *ctx, gp_message *message)
{
    told *self = ctx;

    gp_message_free(self->message);
    self->message = message;
    self->ends += message == NULL;
    note(self);
}

static inline void
assert_message(gp_message *message, const char *expected)
{
    char bytes[64];

    assert_non_null(message);
    assert_int_equal(gp_message_size(message), strlen(expected));
    gp_message_copy(message, bytes);
    assert_memory_equal(bytes, expected, strlen(expected));
}

#endif
