/*
 * Layer: plugin. Why a launch has failed, with what there is to see of the plugin. Each function
 * completes or sets |err|, which may be NULL. The thread that launches calls them.
 */
#ifndef GP_PLUGIN_LAUNCH_REPORT_H
#define GP_PLUGIN_LAUNCH_REPORT_H

#include "plugin/launch.h"

/*
 * The process has ended, was too slow, or has closed its stdout before there was a handshake. It is
 * gone, and gp__launch_finish() was called. Each returns the code that it has set.
 */
int gp__launch_report_exit(const gp__launch *launch, gp_error *err);
int gp__launch_report_timeout(const gp__launch *launch, gp_error *err);
int gp__launch_report_closed_output(const gp__launch *launch, gp_error *err);

/*
 * The handshake is none, or is not for this host: say what may explain that. Its stdout is still
 * open.
 */
void gp__launch_explain_handshake(const gp__launch *launch, gp_error *err);

/* The host does not speak the plugin's version. The process is as above. */
void gp__launch_explain_version(const gp__launch *launch, gp_error *err);

#endif
