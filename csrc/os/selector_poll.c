#include "os/selector.h"

#if !defined(__linux__) || defined(GP_PORTABLE)

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "gp/lock.h"
#include "os/fd.h"

enum { SHORT_MS = 20 }; /* how soon to try again where memory was short */

struct gp__selector {
    int wake[2]; /* a pipe; its reading end is polled first */

    gp_mutex lock;                           /* a leaf: nothing is called with it held */
    struct pollfd *fds GP_GUARDED_BY(&lock); /* owned */
    void **data GP_GUARDED_BY(&lock);        /* owned; data[i] belongs to fds[i] */
    size_t count GP_GUARDED_BY(&lock);
    size_t cap GP_GUARDED_BY(&lock);

    /* Used by the waiting thread alone: the copy that poll() works on. */
    struct pollfd *polled; /* owned */
    void **polled_data;    /* owned */
    size_t polled_cap;
};

int
gp__selector_new(gp__selector **out, gp_error *err)
{
    gp__selector *selector = gp__calloc(1, sizeof(*selector));
    int rc;

    if (selector == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the reactor");
    }
    gp_mutex_init(&selector->lock);
    rc = gp__fd_pipe(selector->wake, err);
    if (rc == 0) {
        gp__fd_set_nonblocking(selector->wake[0]);
        gp__fd_set_nonblocking(selector->wake[1]);
        rc = gp__selector_add(selector, selector->wake[0], GP__SELECT_READ, selector, err);
    }
    if (rc < 0) {
        gp__selector_free(selector);
        return rc;
    }
    *out = selector;
    return 0;
}

void
gp__selector_free(gp__selector *selector)
{
    if (selector != NULL) {
        gp__fd_close(&selector->wake[0]);
        gp__fd_close(&selector->wake[1]);
        gp_mutex_lock(&selector->lock);
        gp__free(selector->fds);
        gp__free(selector->data);
        gp_mutex_unlock(&selector->lock);
        gp_mutex_release(&selector->lock);
        gp__free(selector->polled);
        gp__free(selector->polled_data);
        gp__free(selector);
    }
}

/* Make room for |need| entries in a pair of tables. Returns 0 or GP_ENOMEM. */
static int
reserve_entries(struct pollfd **fds, void ***data, size_t *cap, size_t need)
{
    size_t wanted = *cap > 0 ? *cap : 16;
    struct pollfd *more_fds;
    void **more_data;

    if (need <= *cap) {
        return 0;
    }
    while (wanted < need) {
        wanted *= 2;
    }
    more_fds = gp__realloc(*fds, wanted * sizeof(**fds));
    if (more_fds == NULL) {
        return GP_ENOMEM;
    }
    *fds = more_fds;
    more_data = gp__realloc(*data, wanted * sizeof(**data));
    if (more_data == NULL) {
        return GP_ENOMEM;
    }
    *data = more_data;
    *cap = wanted;
    return 0;
}

static short
poll_events(unsigned events)
{
    return (short)((events & GP__SELECT_READ ? POLLIN : 0) |
                   (events & GP__SELECT_WRITE ? POLLOUT : 0) |
                   (events & GP__SELECT_HANGUP ? GP__POLLHUP : 0));
}

int
gp__selector_add(gp__selector *selector, int fd, unsigned events, void *data, gp_error *err)
{
    int rc;

    gp_mutex_lock(&selector->lock);
    rc = reserve_entries(&selector->fds, &selector->data, &selector->cap, selector->count + 1);
    if (rc == 0) {
        selector->fds[selector->count] = (struct pollfd){.fd = fd, .events = poll_events(events)};
        selector->data[selector->count++] = data;
    }
    gp_mutex_unlock(&selector->lock);
    if (rc < 0) {
        return gp_error_set(err, rc, "out of memory to watch descriptor %d", fd);
    }
    gp__selector_wake(selector);
    return 0;
}

void
gp__selector_change(gp__selector *selector, int fd, unsigned events, void *data)
{
    gp_mutex_lock(&selector->lock);
    for (size_t i = 0; i < selector->count; i++) {
        if (selector->fds[i].fd == fd) {
            selector->fds[i].events = poll_events(events);
            selector->data[i] = data;
            break;
        }
    }
    gp_mutex_unlock(&selector->lock);
    gp__selector_wake(selector);
}

void
gp__selector_remove(gp__selector *selector, int fd)
{
    gp_mutex_lock(&selector->lock);
    for (size_t i = 0; i < selector->count; i++) {
        if (selector->fds[i].fd == fd) {
            selector->count--;
            selector->fds[i] = selector->fds[selector->count];
            selector->data[i] = selector->data[selector->count];
            break;
        }
    }
    gp_mutex_unlock(&selector->lock);
    gp__selector_wake(selector);
}

/*
 * Copy the table for poll(). Returns how many entries the copy has. If there is no memory for all
 * of them, the others (perhaps the pipe that wakes us) are left to the next wait: |*timeout_ms| is
 * then shortened.
 */
static size_t
copy_table(gp__selector *selector, int *timeout_ms)
{
    size_t count;

    gp_mutex_lock(&selector->lock);
    count = selector->count;
    if (reserve_entries(&selector->polled, &selector->polled_data, &selector->polled_cap, count) <
        0) {
        count = selector->polled_cap;
        *timeout_ms = *timeout_ms < 0 || *timeout_ms > SHORT_MS ? SHORT_MS : *timeout_ms;
    }
    if (count > 0) {
        memcpy(selector->polled, selector->fds, count * sizeof(*selector->fds));
        memcpy(selector->polled_data, selector->data, count * sizeof(*selector->data));
    }
    gp_mutex_unlock(&selector->lock);
    return count;
}

static void
empty_wake_pipe(gp__selector *selector)
{
    char bytes[64];

    while (read(selector->wake[0], bytes, sizeof(bytes)) > 0) {
    }
}

int
gp__selector_wait(gp__selector *selector, void **ready, int most, int timeout_ms)
{
    size_t count = copy_table(selector, &timeout_ms);
    int filled = 0;

    if (poll(selector->polled, (nfds_t)count, timeout_ms) <= 0) {
        return 0;
    }
    for (size_t i = 0; i < count && filled < most; i++) {
        /* POLLNVAL: removed and closed since the copy was made. */
        if (selector->polled[i].revents == 0 || (selector->polled[i].revents & POLLNVAL) != 0) {
            continue;
        }
        if (selector->polled_data[i] == selector) {
            empty_wake_pipe(selector);
        } else {
            ready[filled++] = selector->polled_data[i];
        }
    }
    return filled;
}

void
gp__selector_wake(gp__selector *selector)
{
    /* A write that a full pipe refuses is not needed: the pipe is readable. */
    (void)!write(selector->wake[1], "", 1);
}

#endif
