/*
 * Layer: os. The host's side of a template (gp/template.h): how a process is launched from it.
 */
#ifndef GP_OS_PROCESS_TEMPLATE_H
#define GP_OS_PROCESS_TEMPLATE_H

#include "gp/template.h"
#include "os/process/spawn.h"

/* What gp__template_spawn() returns if there is no process, and the program is to be run anew. */
enum { GP__TEMPLATE_GONE = 1 };

/*
 * Launch a process, as gp__spawn() does. |spec| has no image, and its argv is not looked at. What
 * the template has printed to stderr before it was ready goes to the |err| of the first launch.
 *
 * Returns: 0, GP__TEMPLATE_GONE, or GP_EOS. Threads: any; one launch at a time.
 */
int gp__template_spawn(gp_template *tmpl, pid_t *pid, const gp__spawn_spec *spec, gp_error *err);

#endif
