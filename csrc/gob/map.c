#include "gob/map.h"

#include "base/alloc.h"
#include "gp/error.h"

enum { SMALLEST = 16 };

void
gp__gob_map_release(gp__gob_map *map)
{
    gp__free(map->entries);
    *map = (gp__gob_map)GP__GOB_MAP_INIT;
}

/* The finalizer of SplitMix64: every bit of the pair changes half of the result's. */
static uint64_t
hash(uint64_t number, const void *address)
{
    uint64_t mixed = number * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)(uintptr_t)address;

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

/* The entry of the pair, or the free one where it belongs. The table has a free entry. */
static gp__gob_entry *
find(gp__gob_entry *entries, size_t size, uint64_t number, const void *address)
{
    size_t at = (size_t)hash(number, address) & (size - 1);

    while (entries[at].value != NULL &&
           (entries[at].number != number || entries[at].address != address)) {
        at = (at + 1) & (size - 1);
    }
    return &entries[at];
}

void *
gp__gob_map_get(const gp__gob_map *map, uint64_t number, const void *address)
{
    return map->size > 0 ? find(map->entries, map->size, number, address)->value : NULL;
}

static int
grow(gp__gob_map *map)
{
    size_t size = map->size > 0 ? map->size * 2 : SMALLEST;
    gp__gob_entry *entries = gp__calloc(size, sizeof(*entries));

    if (entries == NULL) {
        return GP_ENOMEM;
    }
    for (size_t i = 0; i < map->size; i++) {
        const gp__gob_entry *old = &map->entries[i];

        if (old->value != NULL) {
            *find(entries, size, old->number, old->address) = *old;
        }
    }
    gp__free(map->entries);
    map->entries = entries;
    map->size = size;
    return 0;
}

int
gp__gob_map_add(gp__gob_map *map, uint64_t number, const void *address, void *value)
{
    if (map->used >= map->size / 2 && grow(map) < 0) {
        return GP_ENOMEM;
    }
    *find(map->entries, map->size, number, address) = (gp__gob_entry){number, address, value};
    map->used++;
    return 0;
}
