/*
 * Layer: public. A doubly linked list whose links are fields of the objects in it: adding and
 * removing an object allocates no memory and takes constant time.
 *
 * Invariant: a link is either in one list or has no neighbours (both pointers are NULL, as in
 * zeroed memory). The links of a list form a circle with the list's own link. A list does not own
 * its members, and must not be moved while it has any.
 */
#ifndef GP_LIST_H
#define GP_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "gp/container.h"

typedef struct gp_link {
    struct gp_link *next; /* NULL: in no list */
    struct gp_link *prev;
} gp_link;

typedef struct gp_list {
    gp_link ends; /* |next| is the first one, |prev| the last one */
} gp_list;

/* For a variable with static storage: `static gp_list all = GP_LIST_INIT(all);` */
#define GP_LIST_INIT(list)             \
    {                                  \
        {                              \
            &(list).ends, &(list).ends \
        }                              \
    }

static inline void
gp_list_init(gp_list *list)
{
    list->ends.next = list->ends.prev = &list->ends;
}

static inline bool
gp_list_is_empty(const gp_list *list)
{
    return list->ends.next == &list->ends;
}

static inline bool
gp_link_is_linked(const gp_link *link)
{
    return link->next != NULL;
}

static inline void
gp_link_insert_after(gp_link *where, gp_link *link)
{
    link->next = where->next;
    link->prev = where;
    where->next->prev = link;
    where->next = link;
}

/* |link| is in no list. */
static inline void
gp_list_append(gp_list *list, gp_link *link)
{
    gp_link_insert_after(list->ends.prev, link);
}

static inline void
gp_list_prepend(gp_list *list, gp_link *link)
{
    gp_link_insert_after(&list->ends, link);
}

/* Take it out of the list that it is in, if it is in one. */
static inline void
gp_link_remove(gp_link *link)
{
    if (gp_link_is_linked(link)) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        link->next = link->prev = NULL;
    }
}

/* The first link; NULL: the list is empty. */
static inline gp_link *
gp_list_first(const gp_list *list)
{
    return gp_list_is_empty(list) ? NULL : list->ends.next;
}

static inline gp_link *
gp_list_next(const gp_list *list, const gp_link *link)
{
    return link->next == &list->ends ? NULL : link->next;
}

/* Remove the first link and return it; NULL: the list is empty. */
static inline gp_link *
gp_list_pop(gp_list *list)
{
    gp_link *first = gp_list_first(list);

    if (first != NULL) {
        gp_link_remove(first);
    }
    return first;
}

/* Move all of |from| to |to|, which is empty. */
static inline void
gp_list_move(gp_list *to, gp_list *from)
{
    if (!gp_list_is_empty(from)) {
        to->ends = from->ends;
        to->ends.next->prev = to->ends.prev->next = &to->ends;
        gp_list_init(from);
    }
}

/* The object of |type| whose |member| is the first link, or the one after |entry|; NULL: none. */
#define gp_list_first_entry(list, type, member) \
    (gp_list_is_empty(list) ? NULL : gp_container_of((list)->ends.next, type, member))
#define gp_list_next_entry(list, entry, type, member) \
    ((entry)->member.next == &(list)->ends ? NULL     \
                                           : gp_container_of((entry)->member.next, type, member))

#endif
