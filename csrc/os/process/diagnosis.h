/*
 * Layer: os. What is wrong with a program's file, in words. For error messages: best effort, and
 * nothing here fails but for want of memory. Threads: any.
 */
#ifndef GP_OS_PROCESS_DIAGNOSIS_H
#define GP_OS_PROCESS_DIAGNOSIS_H

#include "base/buf.h"

/* Append one sentence on why executing |path| failed with |errnum|. Returns 0 or GP_ENOMEM. */
int gp__diagnose_exec(gp__buf *out, const char *path, int errnum);

/*
 * Append what may explain that |path| runs but behaves strangely: its mode and owner against the
 * current user, and its architecture if that is not ours. Returns 0 or GP_ENOMEM.
 */
int gp__diagnose_file(gp__buf *out, const char *path);

#endif
