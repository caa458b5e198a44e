/*
 * Layer: base. What is given to gRPC on one thread and comes back on another. All that was done
 * before happens before all that is done after, which ThreadSanitizer has to be told: it does not
 * see into libraries that are not compiled for it.
 */
#ifndef GP_BASE_HANDOVER_H
#define GP_BASE_HANDOVER_H

#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

static inline void
gp__hand_over(void *thing)
{
    __tsan_release(thing);
}

static inline void
gp__take_back(void *thing)
{
    __tsan_acquire(thing);
}
#else
static inline void
gp__hand_over(void *thing)
{
    (void)thing;
}

static inline void
gp__take_back(void *thing)
{
    (void)thing;
}
#endif

#endif
