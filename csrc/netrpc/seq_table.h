/*
 * Layer: netrpc. Calls by their number. Numbers are given one after the other, so that they are
 * spread evenly over the slots of the table.
 */
#ifndef GP_NETRPC_SEQ_TABLE_H
#define GP_NETRPC_SEQ_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"

/* A field of what is in the table. The table owns no member. */
typedef struct gp__seq_entry {
    struct gp__seq_entry *next; /* in the same slot */
    uint64_t seq;
} gp__seq_entry;

typedef struct gp__seq_table {
    gp__seq_entry **slots; /* owned */
    size_t slots_count;    /* a power of two */
    size_t count;          /* members */
} gp__seq_table;

/* Returns: 0 or GP_ENOMEM. */
int gp__seq_table_init(gp__seq_table *table, gp_error *err);
void gp__seq_table_release(gp__seq_table *table);

/* Add |entry|, whose |seq| is set and in no other member. */
void gp__seq_table_add(gp__seq_table *table, gp__seq_entry *entry);

/* Take the member with that number out of the table; NULL: there is none. */
gp__seq_entry *gp__seq_table_remove(gp__seq_table *table, uint64_t seq);

/* Take any member out of the table; NULL: it is empty. */
gp__seq_entry *gp__seq_table_take(gp__seq_table *table);

#endif
