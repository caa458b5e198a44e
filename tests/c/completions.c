#include "completions.h"

void
completions_init(completions *self)
{
    *self = (completions){.times = 0};
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
}

void
completions_release(completions *self)
{
    gp_cond_release(&self->changed);
    gp_mutex_release(&self->lock);
}

void
count_completion(completions *self)
{
    gp_mutex_lock(&self->lock);
    self->times++;
    gp_cond_broadcast(&self->changed);
    gp_mutex_unlock(&self->lock);
}

void
await_completions(completions *self, int times)
{
    int64_t deadline = patience();

    gp_mutex_lock(&self->lock);
    while (self->times < times) {
        assert_int_equal(gp_cond_wait_until(&self->changed, &self->lock, deadline), 0);
    }
    gp_mutex_unlock(&self->lock);
}

void
on_completed(void *ctx)
{
    count_completion(ctx);
}

void
on_sent(void *ctx, bool ok)
{
    ((completions *)ctx)->failed += !ok;
    count_completion(ctx);
}
