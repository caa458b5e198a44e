/*
 * Layer: services. The addresses of brokered connections, between the terms of a host and those of
 * a plugin that a runner has launched.
 */
#ifndef GP_SERVICES_TRANSLATE_H
#define GP_SERVICES_TRANSLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "gp/error.h"
#include "gp/runner.h"
#include "os/process/process.h"

/*
 * Ask the runner of |process| what the address of connection |id| is for the host (|to_host|), or
 * for the plugin. May block: with no lock held.
 *
 * Returns: 0, GP_EBROKER (it cannot tell), or GP_ECLOSED (it is not to be asked any more).
 */
int gp__translate(const gp__process *process, bool to_host, uint32_t id, const char *network,
                  const char *address, gp_runner_address *out, gp_error *err);

/*
 * Where connection |id| is, announced at |*address|: the runner of |process|, if there is one,
 * translates it into |translated|, where |*network| and |*address| point then. Returns: as
 * gp__translate().
 */
int gp__dial_place(const gp__process *process, uint32_t id, const char **network,
                   const char **address, gp_runner_address *translated, gp_error *err);

#endif
