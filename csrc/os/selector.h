/*
 * Layer: os. Waiting until any of many descriptors can be read or written: epoll on Linux, poll()
 * elsewhere and under GP_PORTABLE.
 *
 * add, change, remove and wake may be called from any thread; wait from one.
 */
#ifndef GP_OS_SELECTOR_H
#define GP_OS_SELECTOR_H

#include "gp/error.h"

typedef struct gp__selector gp__selector;

int gp__selector_new(gp__selector **out, gp_error *err);
void gp__selector_free(gp__selector *selector);

/* A hang-up is reported whatever is looked for; GP__SELECT_HANGUP alone reports no data. */
enum { GP__SELECT_READ = 1, GP__SELECT_WRITE = 2, GP__SELECT_HANGUP = 4 };

/*
 * Wait for |fd|, too: gp__selector_wait() gives |data| when it is ready for |events|. Returns 0 or
 * a GP_E* code.
 */
int gp__selector_add(gp__selector *selector, int fd, unsigned events, void *data, gp_error *err);

/* Wait for other events of an |fd| that was added. */
void gp__selector_change(gp__selector *selector, int fd, unsigned events, void *data);
void gp__selector_remove(gp__selector *selector, int fd);

/*
 * Returns: how many of |ready| were filled with the data of ready (or hung-up) descriptors, at most
 * |most|; 0 after a wake or |timeout_ms| (negative: none).
 */
int gp__selector_wait(gp__selector *selector, void **ready, int most, int timeout_ms);

/* End the present wait, or else the next one. */
void gp__selector_wake(gp__selector *selector);

#endif
