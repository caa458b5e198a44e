/*
 * Layer: plugin. Reports why a launch has failed, with what is known about the plugin. Each
 * function completes or sets |err|, which may be NULL. Called by the thread that launches.
 */
#ifndef GP_PLUGIN_LAUNCH_REPORT_H
#define GP_PLUGIN_LAUNCH_REPORT_H

#include "plugin/launch.h"

/*
 * The process has ended, was too slow, or has closed its stdout before there was a handshake. The
 * process must be gone, and gp__launch_finish() must have been called. Each returns the code that
 * it has set.
 */
int gp__launch_report_exit(const gp__launch *launch, gp_error *err);
int gp__launch_report_timeout(const gp__launch *launch, gp_error *err);
int gp__launch_report_closed_output(const gp__launch *launch, gp_error *err);

/*
 * The first line is not a handshake, or not one for this host: add what may explain that. stdout
 * must still be open.
 */
void gp__launch_explain_handshake(const gp__launch *launch, gp_error *err);

/*
 * The host does not speak the plugin's version: add what may explain that. The process must be
 * gone, and gp__launch_finish() must have been called.
 */
void gp__launch_explain_version(const gp__launch *launch, gp_error *err);

#endif
