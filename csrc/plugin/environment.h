/*
 * Layer: plugin. The environment that a plugin is started with.
 */
#ifndef GP_PLUGIN_ENVIRONMENT_H
#define GP_PLUGIN_ENVIRONMENT_H

#include "gp/client.h"

/*
 * The options' environment, followed by the protocol's variables; of several entries for one key
 * the last stays. |tls|, |socket_dir| and |group|, a whole entry (os/process/group.h), may be NULL.
 * What concerns only the host's own start as a plugin is left out.
 *
 * Returns: a NULL-terminated array to be freed with gp__environment_free(), or NULL: out of memory.
 */
char **gp__environment_make(const gp_client_options *options, const gp_tls *tls,
                            const char *socket_dir, const char *group);
void gp__environment_free(char **env);

/* What |key| is set to in |env| (may be NULL), the last time; NULL: not at all. Borrowed. */
const char *gp__environment_value(const char *const *env, const char *key);

#endif
