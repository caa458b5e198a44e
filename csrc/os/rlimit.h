/*
 * Layer: os. How much more memory the process may take before it reaches a limit of
 * setrlimit(2), and how to need less.
 */
#ifndef GP_OS_RLIMIT_H
#define GP_OS_RLIMIT_H

#include <stddef.h>

/* Bytes until RLIMIT_AS; SIZE_MAX if there is no limit. */
size_t gp__memory_left(void);

/*
 * Have the threads that start from now on share a few malloc arenas, if RLIMIT_AS is set and the
 * user has not chosen how many there are. By default glibc reserves 64 MiB of address space for
 * each thread that allocates, and a dozen threads of gRPC and of the library leave little of a
 * gigabyte.
 */
void gp__limit_arenas(void);

#endif
