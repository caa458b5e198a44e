/*
 * Layer: plugin. The environment that a plugin is started with.
 */
#ifndef GP_PLUGIN_ENVIRONMENT_H
#define GP_PLUGIN_ENVIRONMENT_H

#include "gp/client.h"

/*
 * The environment of |options|, followed by the protocol's variables; of several entries for one
 * key the last one stays. |tls|, |socket_dir| and |group|, a whole entry (os/process/group.h), may
 * be NULL. Variables that are for the host itself, as a plugin of another host, are left out.
 *
 * Returns: a NULL-terminated array to be freed with gp__environment_free(), or NULL when memory is
 * short.
 */
char **gp__environment_make(const gp_client_options *options, const gp_tls *tls,
                            const char *socket_dir, const char *group);
void gp__environment_free(char **env);

/*
 * The value of |key| in |env| (may be NULL), the last one if there are several; NULL if there is
 * none. Borrowed.
 */
const char *gp__environment_value(const char *const *env, const char *key);

#endif
