#include "plugin/batch.h"

#include "base/alloc.h"

gp__batch *
gp__batch_new(void)
{
    return gp__calloc(1, sizeof(gp__batch));
}

void
gp__batch_free(gp__batch *batch)
{
    if (batch != NULL) {
        gp__arena_release(&batch->arena);
        gp__buf_release(&batch->raw);
        gp__free(batch->records);
        gp__free(batch);
    }
}

gp_log_record *
gp__batch_slot(gp__batch *batch)
{
    if (batch->count == batch->cap) {
        size_t cap = batch->cap > 0 ? batch->cap * 2 : 8;
        gp_log_record *records = gp__realloc(batch->records, cap * sizeof(*records));

        if (records == NULL) {
            return NULL;
        }
        batch->records = records;
        batch->cap = cap;
    }
    return &batch->records[batch->count];
}

size_t
gp__batch_size(const gp__batch *batch)
{
    return batch->arena.used + batch->raw.len + batch->count * sizeof(gp_log_record);
}
