/*
 * Layer: os. What a process that dies of a signal has written to a pipe of its own and nobody has
 * read.
 */
#ifndef GP_OS_LAST_WORDS_H
#define GP_OS_LAST_WORDS_H

#include <stddef.h>
#include <sys/types.h>

/*
 * From now on, a signal of the kinds that report a fault (SIGSEGV, SIGABRT and the like) first
 * copies what is left in the pipe |from|, which is non-blocking, to |to|, and leads descriptor 2
 * there; then it takes its course, handlers of others included. One pipe at a time in a process.
 */
void gp__last_words_guard(int from, int to);
void gp__last_words_unguard(void);

/*
 * Read from the pipe, as read() does. On its way the end of what was read may be overtaken by a
 * signal that comes within a second, which then copies it, too, with what came shortly before it:
 * better twice than never. One thread at a time.
 */
ssize_t gp__last_words_take(int from, char *bytes, size_t size);

/*
 * Copy what is in |from| now to |to|, as much as it takes with at most |patience_ms| for each wait.
 */
void gp__last_words_copy(int from, int to, int patience_ms);

/* The same for bytes. Returns whether all were taken. */
int gp__last_words_write(int to, const char *bytes, size_t len, int patience_ms);

#endif
