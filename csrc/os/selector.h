/*
 * Layer: os. Waiting until any of many descriptors can be read: epoll on Linux, poll() elsewhere and
 * under GP_PORTABLE.
 *
 * set, remove and wake may be called from any thread; wait from one.
 */
#ifndef GP_OS_SELECTOR_H
#define GP_OS_SELECTOR_H

#include "gp/error.h"

typedef struct gp__selector gp__selector;

int gp__selector_new(gp__selector **out, gp_error *err);
void gp__selector_free(gp__selector *selector);

/* Wait for |fd| too; |data| comes back when it can be read. Returns 0 or a GP_E* code. */
int gp__selector_add(gp__selector *selector, int fd, void *data, gp_error *err);
void gp__selector_remove(gp__selector *selector, int fd);

/*
 * Returns: how many of |ready| were filled with the data of readable (or hung-up) descriptors, at
 * most |most|; 0 after a wake or |timeout_ms| (negative: none).
 */
int gp__selector_wait(gp__selector *selector, void **ready, int most, int timeout_ms);

/* End the wait that goes on, or else the next one. */
void gp__selector_wake(gp__selector *selector);

#endif
