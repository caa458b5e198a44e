/*
 * Layer: gob. A hash table from pairs of a number and an address to addresses. Entries are added
 * and never removed.
 */
#ifndef GP_GOB_MAP_H
#define GP_GOB_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct gp__gob_entry {
    uint64_t number;
    const void *address;
    void *value; /* NULL: a free entry */
} gp__gob_entry;

typedef struct gp__gob_map {
    gp__gob_entry *entries; /* owned; a power of two; NULL before the first entry */
    size_t size;
    size_t used;
} gp__gob_map;

#define GP__GOB_MAP_INIT {NULL, 0, 0}

void gp__gob_map_release(gp__gob_map *map);

/* The value, or NULL. */
void *gp__gob_map_get(const gp__gob_map *map, uint64_t number, const void *address);

/* Add a value, which is not NULL, for a pair that has none. Returns 0 or GP_ENOMEM. */
int gp__gob_map_add(gp__gob_map *map, uint64_t number, const void *address, void *value);

#endif
