/*
 * Layer: public. Locks and condition variables, annotated for clang's thread-safety analysis.
 *
 * `make -C csrc thread-safety` compiles everything with -Wthread-safety: a field that is
 * GP_GUARDED_BY a lock may be used only with that lock held, and a function that GP_REQUIRES one
 * may be called only then. Elsewhere the annotations are empty. Each takes a mutex's address;
 * GP_GUARDED_BY(&lock) is also right where |lock| is a pointer to one.
 *
 *     struct account {
 *         gp_mutex lock;
 *         long balance GP_GUARDED_BY(&lock);
 *     };
 *     static void deposit_locked(struct account *account, long sum) GP_REQUIRES(&account->lock);
 */
#ifndef GP_LOCK_H
#define GP_LOCK_H

#include <pthread.h>
#include <stdint.h>

#if defined(GP_THREAD_SAFETY)
#define GP__ANNOTATE(...) __attribute__((__VA_ARGS__))
#else
#define GP__ANNOTATE(...)
#endif

/* A type whose objects can be held. */
#define GP_CAPABILITY(name) GP__ANNOTATE(capability(name))
/* For fields and static variables: the lock guards the variable, or what it points to. */
#define GP_GUARDED_BY(lock) GP__ANNOTATE(guarded_by(lock))
#define GP_PT_GUARDED_BY(lock) GP__ANNOTATE(pt_guarded_by(lock))
/*
 * For functions: the caller holds the lock; must not hold it; holds it after the call; holds it
 * until then.
 */
#define GP_REQUIRES(...) GP__ANNOTATE(requires_capability(__VA_ARGS__))
#define GP_EXCLUDES(...) GP__ANNOTATE(locks_excluded(__VA_ARGS__))
#define GP_ACQUIRE(...) GP__ANNOTATE(acquire_capability(__VA_ARGS__))
#define GP_RELEASE(...) GP__ANNOTATE(release_capability(__VA_ARGS__))
#define GP_ASSERT_HELD(...) GP__ANNOTATE(assert_capability(__VA_ARGS__))
#define GP_NO_THREAD_SAFETY_ANALYSIS GP__ANNOTATE(no_thread_safety_analysis)

typedef struct GP_CAPABILITY("mutex") gp_mutex {
    pthread_mutex_t os;
} gp_mutex;

#define GP_MUTEX_INIT {PTHREAD_MUTEX_INITIALIZER}

/* A condition variable. Deadlines are on CLOCK_MONOTONIC if gp_cond_init() has made it. */
typedef struct gp_cond {
    pthread_cond_t os;
} gp_cond;

/* For condition variables that are waited for without a deadline. */
#define GP_COND_INIT {PTHREAD_COND_INITIALIZER}

/*
 * Neither fails: the systems that we run on need no memory for them. If one fails nevertheless, it
 * ends the process with a message.
 */
void gp_mutex_init(gp_mutex *mutex);
void gp_cond_init(gp_cond *cond);

static inline void
gp_mutex_release(gp_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->os);
}

static inline void
gp_cond_release(gp_cond *cond)
{
    pthread_cond_destroy(&cond->os);
}

static inline void gp_mutex_lock(gp_mutex *mutex) GP_ACQUIRE(mutex) GP_NO_THREAD_SAFETY_ANALYSIS;
static inline void gp_mutex_unlock(gp_mutex *mutex) GP_RELEASE(mutex) GP_NO_THREAD_SAFETY_ANALYSIS;

/* Tells the analysis what it cannot know: the caller holds the lock. */
static inline void gp_mutex_assert_held(const gp_mutex *mutex) GP_ASSERT_HELD(mutex);

static inline void gp_cond_wait(gp_cond *cond, gp_mutex *mutex) GP_REQUIRES(mutex);

static inline void
gp_mutex_lock(gp_mutex *mutex)
{
    pthread_mutex_lock(&mutex->os);
}

static inline void
gp_mutex_unlock(gp_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->os);
}

static inline void
gp_mutex_assert_held(const gp_mutex *mutex)
{
    (void)mutex;
}

/*
 * A deadline |timeout_ms| from now, in nanoseconds on CLOCK_MONOTONIC. Negative: INT64_MAX, which
 * means never.
 */
int64_t gp_deadline_in(int64_t timeout_ms);

/*
 * Wait until signalled or |deadline|. |cond| was made by gp_cond_init(). Returns 0, or GP_ETIMEOUT.
 * Wake-ups may be spurious.
 */
int gp_cond_wait_until(gp_cond *cond, gp_mutex *mutex, int64_t deadline) GP_REQUIRES(mutex);

/* Wake-ups may be spurious. */
static inline void
gp_cond_wait(gp_cond *cond, gp_mutex *mutex)
{
    pthread_cond_wait(&cond->os, &mutex->os);
}

static inline void
gp_cond_signal(gp_cond *cond)
{
    pthread_cond_signal(&cond->os);
}

static inline void
gp_cond_broadcast(gp_cond *cond)
{
    pthread_cond_broadcast(&cond->os);
}

#endif
