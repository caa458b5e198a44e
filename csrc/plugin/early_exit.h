/*
 * Layer: plugin. The end of a plugin before its host was connected to it.
 */
#ifndef GP_PLUGIN_EARLY_EXIT_H
#define GP_PLUGIN_EARLY_EXIT_H

#include "gp/error.h"
#include "os/process/process.h"

/*
 * If the process (NULL: unknown) has ended, or is exiting and ends within a second, replace |err|
 * by GP_EEXITED, and return that. Otherwise return |rc|.
 */
int gp__early_exit(int rc, gp__process *process, gp_error *err);

#endif
