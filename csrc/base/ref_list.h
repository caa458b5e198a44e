/*
 * Layer: base. A list of all objects of a kind, which are counted references to. A thread can visit
 * one after the other without holding the lock meanwhile, while other threads add and free objects.
 *
 * An object is in the list from gp__ref_list_add() until gp__ref_list_remove(), which comes before
 * it is freed. The list owns no reference.
 */
#ifndef GP_BASE_REF_LIST_H
#define GP_BASE_REF_LIST_H

#include <stdatomic.h>

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

/* In a forked child: no thread holds the lock any more. */
void gp__ref_list_reset(gp__ref_list *list);

void gp__ref_list_add(gp__ref_list *list, gp__ref_link *link, atomic_int *refs);
void gp__ref_list_remove(gp__ref_list *list, gp__ref_link *link);

/*
 * The member after |last|, to which the caller has a reference, or the first one if that is NULL;
 * with a reference, which is the caller's. Members without one left are skipped. NULL: no more.
 */
gp__ref_link *gp__ref_list_next(gp__ref_list *list, gp__ref_link *last);

#endif
