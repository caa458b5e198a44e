#include "os/selector.h"

#if defined(__linux__) && !defined(GP_PORTABLE)

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "os/fd.h"

enum { MOST_EVENTS = 64 };

struct gp__selector {
    int epoll;
    int wake; /* an eventfd, whose data for epoll is this selector's own address */
};

int
gp__selector_new(gp__selector **out, gp_error *err)
{
    gp__selector *selector = gp__malloc(sizeof(*selector));
    int rc;

    if (selector == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the reactor");
    }
    selector->epoll = epoll_create1(EPOLL_CLOEXEC);
    selector->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (selector->epoll < 0 || selector->wake < 0) {
        rc = gp_error_set_errno(err, errno, "cannot create the reactor");
    } else {
        rc = gp__selector_add(selector, selector->wake, GP__SELECT_READ, selector, err);
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
        gp__fd_close(&selector->wake);
        gp__fd_close(&selector->epoll);
        gp__free(selector);
    }
}

static struct epoll_event
make_event(unsigned events, void *data)
{
    return (struct epoll_event){
        .events = (events & GP__SELECT_READ ? (unsigned)EPOLLIN : 0) |
                  (events & GP__SELECT_WRITE ? (unsigned)EPOLLOUT : 0) |
                  (events & GP__SELECT_HANGUP ? (unsigned)EPOLLRDHUP : 0),
        .data.ptr = data,
    };
}

int
gp__selector_add(gp__selector *selector, int fd, unsigned events, void *data, gp_error *err)
{
    struct epoll_event event = make_event(events, data);

    if (epoll_ctl(selector->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        return gp_error_set_errno(err, errno, "cannot watch descriptor %d", fd);
    }
    return 0;
}

void
gp__selector_change(gp__selector *selector, int fd, unsigned events, void *data)
{
    struct epoll_event event = make_event(events, data);

    epoll_ctl(selector->epoll, EPOLL_CTL_MOD, fd, &event);
}

void
gp__selector_remove(gp__selector *selector, int fd)
{
    epoll_ctl(selector->epoll, EPOLL_CTL_DEL, fd, NULL);
}

int
gp__selector_wait(gp__selector *selector, void **ready, int most, int timeout_ms)
{
    struct epoll_event events[MOST_EVENTS];
    int count =
        epoll_wait(selector->epoll, events, most < MOST_EVENTS ? most : MOST_EVENTS, timeout_ms);
    int filled = 0;

    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == selector) {
            uint64_t wakes;

            (void)!read(selector->wake, &wakes, sizeof(wakes));
        } else {
            ready[filled++] = events[i].data.ptr;
        }
    }
    return filled;
}

void
gp__selector_wake(gp__selector *selector)
{
    const uint64_t one = 1;

    (void)!write(selector->wake, &one, sizeof(one));
}

#endif
