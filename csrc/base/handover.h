/*
 * Layer: base. Pointers that are given to gRPC on one thread and come back on another. What the
 * first thread did before happens before what the second one does after. ThreadSanitizer has to be
 * told, since gRPC is not compiled for it.
 */
#ifndef GP_BASE_HANDOVER_H
#define GP_BASE_HANDOVER_H

#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

static inline void
gp__hand_over(void *object)
{
    __tsan_release(object);
}

static inline void
gp__take_back(void *object)
{
    __tsan_acquire(object);
}
#else
static inline void
gp__hand_over(void *object)
{
    (void)object;
}

static inline void
gp__take_back(void *object)
{
    (void)object;
}
#endif

#endif
