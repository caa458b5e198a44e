/*
 * Layer: plugin. Log records of one plugin between their arrival and their delivery. A batch has
 * one owner at a time.
 */
#ifndef GP_PLUGIN_BATCH_H
#define GP_PLUGIN_BATCH_H

#include "base/arena.h"
#include "base/buf.h"
#include "gp/log.h"

typedef struct gp__batch {
    gp__arena arena;        /* owned; the records point into it */
    gp_log_record *records; /* owned */
    size_t count;
    size_t cap;
    gp__buf raw;  /* owned; the unparsed output, if the sink wants it */
    bool skipped; /* lines were left out because of their level */
} gp__batch;

/* NULL when memory is short. */
gp__batch *gp__batch_new(void);
void gp__batch_free(gp__batch *batch);

/*
 * Room for one more record, which becomes part of the batch when |batch->count| is raised. NULL
 * when memory is short.
 */
gp_log_record *gp__batch_slot(gp__batch *batch);

/* How much memory the contents take, in bytes. */
size_t gp__batch_size(const gp__batch *batch);

#endif
