/*
 * Layer: base. Every allocation of the library goes through here, so that tests can make each one
 * fail in turn.
 */
#ifndef GP_BASE_ALLOC_H
#define GP_BASE_ALLOC_H

#include <stdarg.h>
#include <stddef.h>

typedef struct gp__allocator {
    void *(*realloc)(void *ptr, size_t size); /* ptr NULL allocates; never called with size 0 */
    void (*free)(void *ptr);
} gp__allocator;

/*
 * Replace the allocator, which is borrowed until the process ends. NULL restores that of the C
 * library. For tests, before any memory is allocated.
 */
void gp__set_allocator(const gp__allocator *allocator);

/* All return NULL when memory is short. A size of zero counts as one. */
void *gp__malloc(size_t size);
void *gp__calloc(size_t count, size_t size);
void *gp__realloc(void *ptr, size_t size);
void gp__free(void *ptr);

/* A copy that is followed by a terminating zero, so that it is also a string. */
char *gp__memdup(const void *bytes, size_t len);
char *gp__strdup(const char *text);

char *gp__format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *gp__vformat(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

#endif
