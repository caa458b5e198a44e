/*
 * Layer: os. The unread output of a process that dies of a signal, and the line that announces its
 * end (gp/fatal_report.h).
 *
 * A plugin's standard error leads into a pipe that it reads itself. When a signal that reports a
 * fault ends the process, a handler copies to the original standard error what has been written to
 * that pipe and has not reached the host.
 */
#ifndef GP_OS_FATAL_REPORT_H
#define GP_OS_FATAL_REPORT_H

#include <stddef.h>
#include <sys/types.h>

/*
 * From now on, a signal that reports a fault (SIGSEGV, SIGABRT and the like) makes descriptor 2 a
 * duplicate of |to| and copies to |to| what is left in the pipe |from|, which is non-blocking. Then
 * the handler that was set before runs, or the signal ends the process. One pipe at a time in a
 * process.
 */
void gp__fatal_report_set_pipe(int from, int to);
void gp__fatal_report_clear_pipe(void);

/*
 * Read from the pipe, as read() does. What has been read last may not have reached the host when a
 * signal ends the process; so it is kept for a second, and the handler copies it, too. The host may
 * see it twice. One thread at a time.
 */
ssize_t gp__fatal_report_read(int from, char *bytes, size_t size);

#endif
