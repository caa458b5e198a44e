/*
 * Layer: os. The last bytes that a process has written to its stderr, for messages about its end.
 * Threads: any.
 */
#ifndef GP_OS_PROCESS_TAIL_H
#define GP_OS_PROCESS_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/lock.h"
#include "gp/runtime.h"

enum { GP__TAIL = 4096 };

typedef struct gp__tail {
    gp_mutex lock;
    gp_cond ended;                        /* signalled when |being_read| becomes false */
    bool being_read GP_GUARDED_BY(&lock); /* a reader adds what the process writes */
    size_t len GP_GUARDED_BY(&lock);
    char bytes[GP__TAIL] GP_GUARDED_BY(&lock);
} gp__tail;

void gp__tail_init(gp__tail *tail);
void gp__tail_release(gp__tail *tail);

/* For the reader: it begins to read, has read |bytes|, or reads no more. */
void gp__tail_begin(gp__tail *tail);
void gp__tail_add(gp__tail *tail, const char *bytes, size_t len);
void gp__tail_end(gp__tail *tail);

/* Whether nothing will be added any more. */
bool gp__tail_is_whole(gp__tail *tail);

/* Wait until that is so. Returns: 0, GP_ETIMEOUT or GP_EUSER. */
int gp__tail_await(gp__tail *tail, int64_t deadline, const gp_interrupt *interrupt);

/* The bytes as text, without white space around it, and with spaces for NULs. Returns |out|. */
const char *gp__tail_text(gp__tail *tail, char out[GP__TAIL + 1]);

#endif
