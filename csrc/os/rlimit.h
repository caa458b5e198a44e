/*
 * Layer: os. How much memory the process may still take, as far as setrlimit(2) says.
 */
#ifndef GP_OS_RLIMIT_H
#define GP_OS_RLIMIT_H

#include <stddef.h>

/* Bytes until RLIMIT_AS; SIZE_MAX if there is no limit. */
size_t gp__memory_left(void);

#endif
