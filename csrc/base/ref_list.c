#include "base/ref_list.h"

void
gp__ref_list_reset(gp__ref_list *list)
{
    gp_mutex_init(&list->lock);
}

void
gp__ref_list_add(gp__ref_list *list, gp__ref_link *link, atomic_int *refs)
{
    link->refs = refs;
    gp_mutex_lock(&list->lock);
    gp_list_prepend(&list->members, &link->link);
    gp_mutex_unlock(&list->lock);
}

void
gp__ref_list_remove(gp__ref_list *list, gp__ref_link *link)
{
    gp_mutex_lock(&list->lock);
    gp_link_remove(&link->link);
    gp_mutex_unlock(&list->lock);
}

bool
gp__try_ref(atomic_int *refs)
{
    int count = atomic_load(refs);

    while (count > 0 && !atomic_compare_exchange_weak(refs, &count, count + 1)) {
    }
    return count > 0;
}

gp__ref_link *
gp__ref_list_next(gp__ref_list *list, gp__ref_link *last)
{
    gp__ref_link *next;

    gp_mutex_lock(&list->lock);
    next = last != NULL ? gp_list_next_entry(&list->members, last, gp__ref_link, link)
                        : gp_list_first_entry(&list->members, gp__ref_link, link);
    while (next != NULL && !gp__try_ref(next->refs)) {
        next = gp_list_next_entry(&list->members, next, gp__ref_link, link);
    }
    gp_mutex_unlock(&list->lock);
    return next;
}
