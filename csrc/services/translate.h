/*
 * Layer: services. Translates the addresses of brokered connections between a host and a plugin
 * that a runner has launched: the two may have to use different addresses for the same socket.
 */
#ifndef GP_SERVICES_TRANSLATE_H
#define GP_SERVICES_TRANSLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runner.h"
#include "os/process/process.h"

/*
 * Ask the runner of |process| to translate the address of connection |id|: with |to_host|, into one
 * that the host can use, otherwise into one that the plugin can use. May block; to be called with
 * no lock held.
 *
 * Returns: 0, GP_EBROKER (it cannot translate the address), or GP_ECLOSED (it must not be asked any
 * more).
 */
int gp__translate(const gp__process *process, bool to_host, uint32_t id, const char *network,
                  const char *address, gp_runner_address *out, gp_error *err);

/*
 * The address to dial for connection |id|, which was announced at |*address|. If |process| is not
 * NULL, its runner translates the address into |translated|, to which |*network| and |*address|
 * point then. Returns: as gp__translate().
 */
int gp__dial_place(const gp__process *process, uint32_t id, const char **network,
                   const char **address, gp_runner_address *translated, gp_error *err);

#endif
