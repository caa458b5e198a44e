/*
 * Layer: base. Memory that is given out in pieces and freed all at once. Pieces never move.
 */
#ifndef GP_BASE_ARENA_H
#define GP_BASE_ARENA_H

#include <stddef.h>

typedef struct gp__arena_block gp__arena_block;

typedef struct gp__arena {
    gp__arena_block *blocks; /* owned; newest first; only the newest has room */
    size_t used;             /* how many bytes have been given out; users limit it */
} gp__arena;

#define GP__ARENA_INIT {NULL, 0}

void gp__arena_release(gp__arena *arena);

/* Aligned for anything. NULL when memory is short. */
void *gp__arena_alloc(gp__arena *arena, size_t size);

/* A copy of |bytes|, without a terminating zero. */
char *gp__arena_copy(gp__arena *arena, const void *bytes, size_t len);

#endif
