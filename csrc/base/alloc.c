#include "base/alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const gp__allocator c_library = {realloc, free};
/* Atomic, since tests change it while other threads run. */
static const gp__allocator *_Atomic current = &c_library;

void
gp__set_allocator(const gp__allocator *replacement)
{
    atomic_store(&current, replacement != NULL ? replacement : &c_library);
}

static const gp__allocator *
current_allocator(void)
{
    return atomic_load_explicit(&current, memory_order_acquire);
}

void *
gp__malloc(size_t size)
{
    return current_allocator()->realloc(NULL, size > 0 ? size : 1);
}

void *
gp__calloc(size_t count, size_t size)
{
    void *ptr;

    if (size > 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    ptr = gp__malloc(count * size);
    if (ptr != NULL) {
        memset(ptr, 0, count * size);
    }
    return ptr;
}

void *
gp__realloc(void *ptr, size_t size)
{
    return current_allocator()->realloc(ptr, size > 0 ? size : 1);
}

void
gp__free(void *ptr)
{
    if (ptr != NULL) {
        current_allocator()->free(ptr);
    }
}

char *
gp__memdup(const void *bytes, size_t len)
{
    char *copy = len < SIZE_MAX ? gp__malloc(len + 1) : NULL;

    if (copy != NULL) {
        if (len > 0) {
            memcpy(copy, bytes, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

char *
gp__strdup(const char *text)
{
    return gp__memdup(text, strlen(text));
}

char *
gp__format(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = gp__vformat(format, args);
    va_end(args);
    return text;
}

char *
gp__vformat(const char *format, va_list args)
{
    va_list measure;
    int len;
    char *text;

    va_copy(measure, args);
    len = vsnprintf(NULL, 0, format, measure);
    va_end(measure);
    if (len < 0) {
        return NULL;
    }
    text = gp__malloc((size_t)len + 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)len + 1, format, args);
    }
    return text;
}
