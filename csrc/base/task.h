/*
 * Layer: base. A unit of work to be run later: a member of what it works on, so that queueing it
 * allocates nothing.
 */
#ifndef GP_BASE_TASK_H
#define GP_BASE_TASK_H

#include "gp/list.h"

/*
 * |run| finds what the task is part of by gp_container_of(). The task is in no queue by then: |run|
 * may queue it again, or free it.
 */
typedef struct gp__task {
    gp_link link; /* the queue's */
    void (*run)(struct gp__task *task);
} gp__task;

#endif
