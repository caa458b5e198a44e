/*
 * Layer: os. How much more memory the process may take before it reaches a limit of setrlimit(2).
 */
#ifndef GP_OS_RLIMIT_H
#define GP_OS_RLIMIT_H

#include <stddef.h>

/* Bytes until RLIMIT_AS; SIZE_MAX if there is no limit. */
size_t gp__memory_left(void);

#endif
