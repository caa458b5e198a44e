#include "netrpc/seq_table.h"

#include "base/alloc.h"

enum { FIRST_SLOTS = 16 };

int
gp__seq_table_init(gp__seq_table *table, gp_error *err)
{
    table->slots = gp__calloc(FIRST_SLOTS, sizeof(*table->slots));
    table->slots_count = FIRST_SLOTS;
    table->count = 0;
    return table->slots != NULL ? 0 : gp_error_set(err, GP_ENOMEM, "out of memory for calls");
}

void
gp__seq_table_release(gp__seq_table *table)
{
    gp__free(table->slots);
    table->slots = NULL;
}

static void
put_into_slot(gp__seq_entry **slots, size_t slots_count, gp__seq_entry *entry)
{
    gp__seq_entry **slot = &slots[entry->seq & (slots_count - 1)];

    entry->next = *slot;
    *slot = entry;
}

/* If memory is short, the table stays as it is: it works with any number of members. */
static void
enlarge(gp__seq_table *table)
{
    size_t slots_count = table->slots_count * 2;
    gp__seq_entry **slots = gp__calloc(slots_count, sizeof(*slots));

    if (slots == NULL) {
        return;
    }
    for (size_t i = 0; i < table->slots_count; i++) {
        gp__seq_entry *entry = table->slots[i];

        while (entry != NULL) {
            gp__seq_entry *next = entry->next;

            put_into_slot(slots, slots_count, entry);
            entry = next;
        }
    }
    gp__free(table->slots);
    table->slots = slots;
    table->slots_count = slots_count;
}

void
gp__seq_table_add(gp__seq_table *table, gp__seq_entry *entry)
{
    if (table->count >= table->slots_count) {
        enlarge(table);
    }
    put_into_slot(table->slots, table->slots_count, entry);
    table->count++;
}

gp__seq_entry *
gp__seq_table_remove(gp__seq_table *table, uint64_t seq)
{
    gp__seq_entry **at = &table->slots[seq & (table->slots_count - 1)];
    gp__seq_entry *entry;

    while ((entry = *at) != NULL && entry->seq != seq) {
        at = &entry->next;
    }
    if (entry != NULL) {
        *at = entry->next;
        table->count--;
    }
    return entry;
}

gp__seq_entry *
gp__seq_table_take(gp__seq_table *table)
{
    for (size_t i = 0; table->count > 0 && i < table->slots_count; i++) {
        gp__seq_entry *entry = table->slots[i];

        if (entry != NULL) {
            table->slots[i] = entry->next;
            table->count--;
            return entry;
        }
    }
    return NULL;
}
