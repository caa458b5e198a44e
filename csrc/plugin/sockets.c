#include "plugin/sockets.h"

#include <string.h>

#include "base/alloc.h"
#include "os/path.h"
#include "os/tmpdir.h"
#include "plugin/environment.h"

/* The length of the name of a plugin's socket. */
enum { ROOM = sizeof("plugin") - 1 + GP__RANDOM_NAME };

/* The value of the variable |key| in the plugin's environment; NULL if it is not set, or empty. */
static const char *
variable_value(const gp_client_options *options, const char *key)
{
    const char *value = gp__environment_value(options->env, key);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool
gp__sockets_fit(const gp_client_options *options)
{
    const char *directory = variable_value(options, "PLUGIN_UNIX_SOCKET_DIR");
    char *absolute;
    bool fit;

    directory = directory != NULL ? directory : variable_value(options, "TMPDIR");
    if (directory == NULL) {
        return true;
    }
    absolute = gp__path_absolute(directory, strlen(directory), options->directory);
    fit = absolute == NULL || gp__socket_misfit(absolute, ROOM) == NULL;
    gp__free(absolute);
    return fit;
}

/* Add the directory that the variable |key| names, if there is one. */
static void
add_variable(gp__leftover *out, const gp_client_options *options, const char *key)
{
    const char *value = variable_value(options, key);

    if (value != NULL) {
        gp__leftover_add(out, value, options->directory);
    }
}

void
gp__sockets_left(gp__leftover *out, const gp_client_options *options, gp__process *process)
{
    gp__leftover_init(out, process);
    if (options->reattach_network == NULL) {
        add_variable(out, options, "PLUGIN_UNIX_SOCKET_DIR");
        add_variable(out, options, "TMPDIR");
    } else {
        if (strcmp(options->reattach_network, "unix") == 0) {
            char *parent = gp__path_parent(options->reattach_address);

            if (parent != NULL) {
                gp__leftover_add(out, parent, NULL);
            }
            gp__free(parent);
        }
        gp__leftover_add(out, gp__tmpdir(), NULL);
    }
    gp__leftover_add(out, GP__SHORT_TMPDIR, NULL);
}
