/*
 * Layer: public. From a field to the struct that contains it.
 */
#ifndef GP_CONTAINER_H
#define GP_CONTAINER_H

#include <stddef.h>

/* The |type| whose |member| is at |pointer|, which is not NULL. */
#define gp_container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
