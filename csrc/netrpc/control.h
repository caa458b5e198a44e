/*
 * Layer: netrpc. The services by which a host controls a plugin, on the first stream of their
 * connection: Control.Ping, Control.Quit and Dispenser.Dispense. The host's calls, and the values
 * of both sides.
 */
#ifndef GP_NETRPC_CONTROL_H
#define GP_NETRPC_CONTROL_H

#include <stdint.h>

#include "gp/netrpc.h"

/* ---- Hosts: these return as gp_netrpc_call() ---- */

int gp__control_ping(gp_netrpc_client *client, int64_t deadline, const gp_interrupt *interrupt,
                     gp_error *err);
int gp__control_quit(gp_netrpc_client *client, int64_t deadline, const gp_interrupt *interrupt,
                     gp_error *err);

/* Have the plugin make an implementation of |name|. |*id| is the one to dial. */
int gp__control_dispense(gp_netrpc_client *client, const char *name, int64_t deadline,
                         const gp_interrupt *interrupt, uint32_t *id, gp_error *err);

/* ---- Plugins ---- */

/*
 * The argument of Dispense, borrowed until the request is answered. Returns 0, or GP_EGOB if it is
 * no string, or GP_ENOMEM.
 */
int gp__control_read_name(const gp_netrpc_request *request, gp_bytes *name, gp_error *err);

/* Answer Ping or Quit; Dispense. If memory is short, the answer is an error that says so. */
void gp__control_reply_nothing(gp_netrpc_request *request);
void gp__control_reply_id(gp_netrpc_request *request, uint32_t id);

#endif
