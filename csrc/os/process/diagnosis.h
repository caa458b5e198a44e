/*
 * Layer: os. Sentences on what is wrong with a program's file, for error messages. They say what
 * can be found out; only a lack of memory is a failure. Threads: any.
 */
#ifndef GP_OS_PROCESS_DIAGNOSIS_H
#define GP_OS_PROCESS_DIAGNOSIS_H

#include "base/buf.h"
#include "gp/error.h"

/* Append one sentence on why executing |path| failed with |errnum|. Returns 0 or GP_ENOMEM. */
int gp__diagnose_exec(gp__buf *out, const char *path, int errnum);

/*
 * Set "cannot start |program|: ", and why executing the file |path| failed with |errnum|. |path|
 * may be NULL (out of memory): then |errnum| alone is the reason. Returns GP_ESTART.
 */
int gp__cannot_start(gp_error *err, const char *program, const char *path, int errnum);

/*
 * Turn GP_EOS into GP_ESTART, for a failed system call without which a plugin cannot be started.
 * Returns the resulting code.
 */
int gp__as_start_error(int rc, gp_error *err);

#endif
