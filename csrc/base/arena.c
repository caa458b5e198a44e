#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

enum { SMALLEST_BLOCK = 4096, LARGEST_BLOCK = 256 * 1024 };

struct gp__arena_block {
    gp__arena_block *older; /* owned */
    size_t used;
    size_t size;
    alignas(max_align_t) char data[];
};

void
gp__arena_release(gp__arena *arena)
{
    while (arena->blocks != NULL) {
        gp__arena_block *block = arena->blocks;

        arena->blocks = block->older;
        gp__free(block);
    }
    arena->used = 0;
}

/* Each block is twice as large as the last one, which makes few allocations of many pieces. */
static gp__arena_block *
add_block(gp__arena *arena, size_t need)
{
    size_t size = SMALLEST_BLOCK;
    gp__arena_block *block;

    if (arena->blocks != NULL) {
        size = arena->blocks->size < LARGEST_BLOCK / 2 ? arena->blocks->size * 2 : LARGEST_BLOCK;
    }
    if (size < need) {
        size = need;
    }
    block = size < SIZE_MAX - sizeof(*block) ? gp__malloc(sizeof(*block) + size) : NULL;
    if (block != NULL) {
        block->older = arena->blocks;
        block->used = 0;
        block->size = size;
        arena->blocks = block;
    }
    return block;
}

void *
gp__arena_alloc(gp__arena *arena, size_t size)
{
    const size_t mask = alignof(max_align_t) - 1;
    gp__arena_block *block = arena->blocks;
    void *piece;

    if (size > SIZE_MAX - mask) {
        return NULL;
    }
    size = (size + mask) & ~mask;
    if (block == NULL || size > block->size - block->used) {
        block = add_block(arena, size);
        if (block == NULL) {
            return NULL;
        }
    }
    piece = block->data + block->used;
    block->used += size;
    arena->used += size;
    return piece;
}

char *
gp__arena_copy(gp__arena *arena, const void *bytes, size_t len)
{
    char *copy = gp__arena_alloc(arena, len > 0 ? len : 1);

    if (copy != NULL && len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}
