/*
 * Layer: base. A doubly linked list whose links are members of what it lists: putting something in
 * or taking it out allocates nothing and takes constant time.
 *
 * Invariant: a link is either in one list or has no neighbours (as memory of zeros has none). The
 * list's own link closes the circle. A list does not own its members, and must stay where it is
 * while it has any.
 */
#ifndef GP_BASE_LIST_H
#define GP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/container.h"

typedef struct gp__link {
    struct gp__link *next; /* NULL: in no list */
    struct gp__link *prev;
} gp__link;

typedef struct gp__list {
    gp__link ends; /* |next| is the first one, |prev| the last one */
} gp__list;

/* For a variable with static storage: `static gp__list all = GP__LIST_INIT(all);` */
#define GP__LIST_INIT(list)            \
    {                                  \
        {                              \
            &(list).ends, &(list).ends \
        }                              \
    }

static inline void
gp__list_init(gp__list *list)
{
    list->ends.next = list->ends.prev = &list->ends;
}

static inline bool
gp__list_is_empty(const gp__list *list)
{
    return list->ends.next == &list->ends;
}

static inline bool
gp__link_is_linked(const gp__link *link)
{
    return link->next != NULL;
}

static inline void
gp__link_insert_after(gp__link *where, gp__link *link)
{
    link->next = where->next;
    link->prev = where;
    where->next->prev = link;
    where->next = link;
}

/* |link| is in no list. */
static inline void
gp__list_append(gp__list *list, gp__link *link)
{
    gp__link_insert_after(list->ends.prev, link);
}

static inline void
gp__list_prepend(gp__list *list, gp__link *link)
{
    gp__link_insert_after(&list->ends, link);
}

/* Take it out of the list that it is in, if it is in one. */
static inline void
gp__link_remove(gp__link *link)
{
    if (gp__link_is_linked(link)) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        link->next = link->prev = NULL;
    }
}

/* NULL: there is none. */
static inline gp__link *
gp__list_first(const gp__list *list)
{
    return gp__list_is_empty(list) ? NULL : list->ends.next;
}

static inline gp__link *
gp__list_next(const gp__list *list, const gp__link *link)
{
    return link->next == &list->ends ? NULL : link->next;
}

/* Take the first one out. NULL: there is none. */
static inline gp__link *
gp__list_pop(gp__list *list)
{
    gp__link *first = gp__list_first(list);

    if (first != NULL) {
        gp__link_remove(first);
    }
    return first;
}

/* The |type| whose |member| is the first link; NULL: there is none. The same for the next ones. */
#define gp__list_first_entry(list, type, member) \
    (gp__list_is_empty(list) ? NULL : gp__container_of((list)->ends.next, type, member))
#define gp__list_next_entry(list, entry, type, member) \
    ((entry)->member.next == &(list)->ends ? NULL      \
                                           : gp__container_of((entry)->member.next, type, member))

#endif
