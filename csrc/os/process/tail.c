#include "os/process/tail.h"

#include <string.h>

#include "base/text.h"
#include "base/thread.h"

void
gp__tail_init(gp__tail *tail)
{
    gp_mutex_init(&tail->lock);
    gp_cond_init(&tail->ended);
    gp_mutex_lock(&tail->lock);
    tail->being_read = false;
    tail->len = 0;
    gp_mutex_unlock(&tail->lock);
}

void
gp__tail_release(gp__tail *tail)
{
    gp_cond_release(&tail->ended);
    gp_mutex_release(&tail->lock);
}

static void
set_being_read(gp__tail *tail, bool being_read)
{
    gp_mutex_lock(&tail->lock);
    tail->being_read = being_read;
    gp_cond_broadcast(&tail->ended);
    gp_mutex_unlock(&tail->lock);
}

void
gp__tail_begin(gp__tail *tail)
{
    set_being_read(tail, true);
}

void
gp__tail_end(gp__tail *tail)
{
    set_being_read(tail, false);
}

void
gp__tail_add(gp__tail *tail, const char *bytes, size_t len)
{
    size_t kept;

    if (len > GP__TAIL) {
        bytes += len - GP__TAIL;
        len = GP__TAIL;
    }
    gp_mutex_lock(&tail->lock);
    kept = tail->len < GP__TAIL - len ? tail->len : GP__TAIL - len;
    memmove(tail->bytes, tail->bytes + tail->len - kept, kept);
    memcpy(tail->bytes + kept, bytes, len);
    tail->len = kept + len;
    gp_mutex_unlock(&tail->lock);
}

bool
gp__tail_is_whole(gp__tail *tail)
{
    bool whole;

    gp_mutex_lock(&tail->lock);
    whole = !tail->being_read;
    gp_mutex_unlock(&tail->lock);
    return whole;
}

int
gp__tail_await(gp__tail *tail, int64_t deadline, const gp_interrupt *interrupt)
{
    int rc = 0;

    gp_mutex_lock(&tail->lock);
    while (rc == 0 && tail->being_read) {
        rc = gp__cond_wait_interruptible(&tail->ended, &tail->lock, deadline, interrupt);
    }
    rc = tail->being_read ? rc : 0;
    gp_mutex_unlock(&tail->lock);
    return rc;
}

const char *
gp__tail_text(gp__tail *tail, char out[GP__TAIL + 1])
{
    gp__text text;

    gp_mutex_lock(&tail->lock);
    text = gp__text_trim((gp__text){tail->bytes, tail->len});
    for (size_t i = 0; i < text.len; i++) {
        out[i] = text.data[i] != '\0' ? text.data[i] : ' ';
    }
    gp_mutex_unlock(&tail->lock);
    out[text.len] = '\0';
    return out;
}
