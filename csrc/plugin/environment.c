#include "plugin/environment.h"

#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "os/process/group.h"

/* How many entries add_protocol() adds, at most. */
enum { PROTOCOL_VARIABLES = 10 };

/*
 * Variables that a host which is itself a plugin has from its own host. A plugin that inherited
 * them would present a certificate that this host did not ask for, or multiplex when this host does
 * not.
 */
static const char *const not_inherited[] = {
    "PLUGIN_CLIENT_CERT",
    "PLUGIN_MULTIPLEX_GRPC",
    "PYGO_PLUGIN_DETACHED",
    GP__GROUP_VARIABLE,
};

static size_t
key_length(const char *entry)
{
    return strcspn(entry, "=");
}

static bool
same_key(const char *one, const char *other)
{
    size_t len = key_length(one);

    return len == key_length(other) && memcmp(one, other, len) == 0;
}

static bool
is_inherited(const char *entry)
{
    for (size_t i = 0; i < sizeof(not_inherited) / sizeof(not_inherited[0]); i++) {
        if (same_key(entry, not_inherited[i])) {
            return false;
        }
    }
    return true;
}

/*
 * Append |entry|, which is owned from here on, and remove an earlier entry with the same key.
 * Returns 0, or GP_ENOMEM if |entry| is NULL.
 */
static int
add_entry(char **env, size_t *count, char *entry)
{
    size_t at = 0;

    if (entry == NULL) {
        return GP_ENOMEM;
    }
    while (at < *count && !same_key(env[at], entry)) {
        at++;
    }
    if (at < *count) {
        gp__free(env[at]);
        memmove(&env[at], &env[at + 1], (*count - at - 1) * sizeof(*env));
        (*count)--;
    }
    env[(*count)++] = entry;
    return 0;
}

static char *
list_versions(const gp_client_options *options)
{
    gp__buf list = GP__BUF_INIT;
    int rc = gp__buf_printf(&list, "PLUGIN_PROTOCOL_VERSIONS=");
    char *entry;

    for (size_t i = 0; i < options->versions_count && rc == 0; i++) {
        rc = gp__buf_printf(&list, i > 0 ? ",%d" : "%d", options->versions[i]);
    }
    entry = rc == 0 ? gp__memdup(list.data, list.len) : NULL;
    gp__buf_release(&list);
    return entry;
}

static int
add_protocol(char **env, size_t *count, const gp_client_options *options, const gp_tls *tls,
             const char *socket_dir, const char *group)
{
    int rc = 0;

    if (options->cookie_key != NULL && options->cookie_key[0] != '\0') {
        rc = add_entry(env, count,
                       gp__format("%s=%s", options->cookie_key,
                                  options->cookie_value != NULL ? options->cookie_value : ""));
    }
    if (rc == 0) {
        rc = add_entry(env, count, gp__format("PLUGIN_MIN_PORT=%d", options->min_port));
    }
    if (rc == 0) {
        rc = add_entry(env, count, gp__format("PLUGIN_MAX_PORT=%d", options->max_port));
    }
    if (rc == 0 && options->detach) {
        rc = add_entry(env, count, gp__strdup("PYGO_PLUGIN_DETACHED=1"));
    }
    if (rc == 0 && group != NULL) {
        rc = add_entry(env, count, gp__strdup(group));
    }
    if (rc == 0 && socket_dir != NULL) {
        rc = add_entry(env, count, gp__format("PLUGIN_UNIX_SOCKET_DIR=%s", socket_dir));
    }
    if (rc == 0 && options->unix_socket_group != NULL) {
        rc = add_entry(env, count,
                       gp__format("PLUGIN_UNIX_SOCKET_GROUP=%s", options->unix_socket_group));
    }
    if (rc == 0 && options->multiplex) {
        rc = add_entry(env, count, gp__strdup("PLUGIN_MULTIPLEX_GRPC=true"));
    }
    if (rc == 0 && tls != NULL && gp_tls_field(tls) != NULL) {
        rc = add_entry(env, count, gp__format("PLUGIN_CLIENT_CERT=%s", gp_tls_certificate(tls)));
    }
    return rc < 0 ? rc : add_entry(env, count, list_versions(options));
}

char **
gp__environment_make(const gp_client_options *options, const gp_tls *tls, const char *socket_dir,
                     const char *group)
{
    size_t given = 0;
    size_t count = 0;
    char **env;
    int rc = 0;

    while (options->env != NULL && options->env[given] != NULL) {
        given++;
    }
    env = gp__calloc(given + PROTOCOL_VARIABLES + 1, sizeof(*env));
    if (env == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < given && rc == 0; i++) {
        if (is_inherited(options->env[i])) {
            rc = add_entry(env, &count, gp__strdup(options->env[i]));
        }
    }
    if (rc == 0) {
        rc = add_protocol(env, &count, options, tls, socket_dir, group);
    }
    if (rc < 0) {
        env[count] = NULL;
        gp__environment_free(env);
        return NULL;
    }
    env[count] = NULL;
    return env;
}

const char *
gp__environment_value(const char *const *env, const char *key)
{
    const char *value = NULL;

    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        if (same_key(env[i], key)) {
            value = env[i] + key_length(env[i]);
            value += *value == '=' ? 1 : 0;
        }
    }
    return value;
}

void
gp__environment_free(char **env)
{
    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        gp__free(env[i]);
    }
    gp__free(env);
}
