/*
 * Layer: public. The line by which a plugin's host tells a crash from other output.
 */
#ifndef GP_FATAL_REPORT_H
#define GP_FATAL_REPORT_H

/*
 * From now on, signals that report a fault (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL) write a line
 * "panic: ..." to the original standard error of this process before they take their course. Hosts
 * take what is written after that line for the crash's trace, so the handlers of others that write
 * one have to run after ours: call this function again after installing them.
 *
 * A forked child writes no such line. Idempotent. Threads: any.
 */
void gp_fatal_report_enable(void);

#endif
