/*
 * Layer: base. A list of all reference-counted objects of one kind. A thread can visit one after
 * the other, and holds no lock while it uses an object; other threads may add and free objects
 * meanwhile.
 *
 * An object is in the list from gp__ref_list_add() until gp__ref_list_remove(), which comes before
 * it is freed. The list owns no reference.
 */
#ifndef GP_BASE_REF_LIST_H
#define GP_BASE_REF_LIST_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gp/list.h"
#include "gp/lock.h"

typedef struct gp__ref_link {
    gp_link link;
    atomic_int *refs; /* borrowed: the object's count of references */
} gp__ref_link;

typedef struct gp__ref_list {
    gp_mutex lock;
    gp_list members GP_GUARDED_BY(&lock);
} gp__ref_list;

/* For a variable with static storage. */
#define GP__REF_LIST_INIT(list) {.lock = GP_MUTEX_INIT, .members = GP_LIST_INIT((list).members)}

/*
 * Take a reference by the object's count of references, unless the last one has been dropped. The
 * object must not be freed meanwhile. Returns whether there is a reference.
 */
bool gp__try_ref(atomic_int *refs);

/* Empty the list in a forked child, whatever thread of the parent held the lock. */
void gp__ref_list_reset(gp__ref_list *list);

void gp__ref_list_add(gp__ref_list *list, gp__ref_link *link, atomic_int *refs);
void gp__ref_list_remove(gp__ref_list *list, gp__ref_link *link);

/*
 * The member after |last|, or the first member if |last| is NULL. The caller must hold a reference
 * to |last|, and gets a reference to the result. Members whose last reference has been dropped are
 * skipped. Returns NULL at the end of the list.
 */
gp__ref_link *gp__ref_list_next(gp__ref_list *list, gp__ref_link *last);

#endif
