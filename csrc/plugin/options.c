#include "plugin/options.h"

#include <stddef.h>
#include <string.h>

#include "base/text.h"
#include "gp/checksum.h"
#include "os/process/group.h"
#include "wire/handshake.h"

enum { LOWEST_PORT = 0, HIGHEST_PORT = 65535 };

/* ---- Checks ---------------------------------------------------------------------------------- */

static int
check_reattach(const gp_client_options *options, gp_error *err)
{
    const char *network = options->reattach_network;
    const char *protocol = options->reattach_protocol;
    const char *address = options->reattach_address;
    char quoted[GP__QUOTED];
    const char *fault;

    if (options->auto_mtls) {
        return gp_error_set(
            err, GP_EINVAL,
            "AutoMTLS excludes reattaching: the running plugin trusts only the host that "
            "launched it");
    }
    if (options->kill_group != NULL) {
        return gp_error_set(
            err, GP_EINVAL,
            "killing a plugin's group excludes reattaching: the processes of a running plugin "
            "are not marked as a group");
    }
    if (options->checksum_hash != NULL) {
        return gp_error_set(err, GP_EINVAL,
                            "a checksum excludes reattaching: a running plugin cannot be checked");
    }
    if (address == NULL) {
        return gp_error_set(err, GP_EINVAL, "to reattach, both network and address are needed");
    }
    if (strcmp(network, "unix") != 0 && strcmp(network, "tcp") != 0) {
        return gp_error_set(err, GP_EINVAL,
                            "unknown network %s to reattach to, expected unix or tcp",
                            gp__quote(quoted, network, strlen(network)));
    }
    fault = gp__address_fault(network, (gp__text){address, strlen(address)});
    if (fault != NULL) {
        return gp_error_set(err, GP_EINVAL, "the %s address %s to reattach to %s", network,
                            gp__quote(quoted, address, strlen(address)), fault);
    }
    /* As in the handshake line, no protocol means net/rpc. */
    if (protocol != NULL && protocol[0] != '\0' && strcmp(protocol, "grpc") != 0 &&
        strcmp(protocol, "netrpc") != 0) {
        return gp_error_set(err, GP_EINVAL,
                            "unknown protocol %s to reattach with, expected grpc or netrpc",
                            gp__quote(quoted, protocol, strlen(protocol)));
    }
    return 0;
}

static int
check_launch(const gp_client_options *options, gp_error *err)
{
    if (options->argv == NULL || options->argv[0] == NULL || options->argv[0][0] == '\0') {
        return gp_error_set(err, GP_EINVAL,
                            "there is neither a command nor anything to reattach to");
    }
    if (options->cookie_key != NULL && strchr(options->cookie_key, '=') != NULL) {
        return gp_error_set(err, GP_EINVAL, "the magic cookie's key %s contains an equals sign",
                            options->cookie_key);
    }
    if (options->min_port < LOWEST_PORT || options->max_port > HIGHEST_PORT ||
        options->min_port > options->max_port) {
        return gp_error_set(err, GP_EINVAL, "min_port %d and max_port %d are not a range of ports",
                            options->min_port, options->max_port);
    }
    if (options->checksum_hash != NULL) {
        int size = gp_checksum_size(options->checksum_hash, err);

        if (size >= 0 && (size_t)size != options->checksum_len) {
            return gp_error_set(err, GP_EINVAL,
                                "a checksum of %s has %d bytes, but the expected one has %zu",
                                options->checksum_hash, size, options->checksum_len);
        }
        if (size < 0) {
            return size;
        }
    }
    if (options->kill_group != NULL && options->runner.start != NULL) {
        return gp_error_set(
            err, GP_EINVAL,
            "killing a plugin's group excludes runners, which kill what they start");
    }
    if (options->kill_group != NULL && !gp__group_supported()) {
        return gp_error_set(
            err, GP_EINVAL,
            "a plugin's group cannot be killed here: that takes Linux 5.3 or later and "
            "a mounted /proc");
    }
    if (options->tmpl != NULL && (options->checksum_hash != NULL || options->kill_group != NULL ||
                                  options->runner.start != NULL)) {
        return gp_error_set(err, GP_EINVAL,
                            "a template excludes checksums, groups that are killed, and runners");
    }
    if (options->start_timeout_ms <= 0) {
        return gp_error_set(err, GP_EINVAL, "the start timeout has to be more than zero");
    }
    if (options->kill_timeout_ms < 0) {
        return gp_error_set(err, GP_EINVAL, "the kill timeout must not be negative");
    }
    return 0;
}

static int
check_options(const gp_client_options *options, gp_error *err)
{
    int rc = options->reattach_network != NULL ? check_reattach(options, err)
                                               : check_launch(options, err);

    if (rc == 0 && options->auto_mtls && options->tls != NULL) {
        rc = gp_error_set(err, GP_EINVAL, "AutoMTLS and a configuration of TLS exclude each other");
    }
    return rc;
}

/* ---- Copies ---------------------------------------------------------------------------------- */

/* The members that are strings, and the members that are NULL-terminated arrays of strings. */
static const size_t strings[] = {
    offsetof(gp_client_options, name),
    offsetof(gp_client_options, directory),
    offsetof(gp_client_options, cookie_key),
    offsetof(gp_client_options, cookie_value),
    offsetof(gp_client_options, kill_group),
    offsetof(gp_client_options, unix_socket_dir),
    offsetof(gp_client_options, unix_socket_group),
    offsetof(gp_client_options, checksum_hash),
    offsetof(gp_client_options, reattach_network),
    offsetof(gp_client_options, reattach_address),
    offsetof(gp_client_options, reattach_protocol),
};
static const size_t string_arrays[] = {
    offsetof(gp_client_options, argv),
    offsetof(gp_client_options, env),
};

/*
 * The own_...() functions replace |*at| by a copy in |memory|; NULL stays NULL. They return 0 or
 * GP_ENOMEM.
 */
static int
own_string(gp__arena *memory, const char **at)
{
    if (*at != NULL) {
        *at = gp__arena_copy(memory, *at, strlen(*at) + 1);
        return *at != NULL ? 0 : GP_ENOMEM;
    }
    return 0;
}

static int
own_strings(gp__arena *memory, const char *const **at)
{
    const char *const *from = *at;
    const char **copy;
    size_t count = 0;
    int rc = 0;

    if (from == NULL) {
        return 0;
    }
    while (from[count] != NULL) {
        count++;
    }
    copy = gp__arena_alloc(memory, (count + 1) * sizeof(*copy));
    if (copy == NULL) {
        return GP_ENOMEM;
    }
    memcpy(copy, from, (count + 1) * sizeof(*copy));
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = own_string(memory, &copy[i]);
    }
    *at = copy;
    return rc;
}

static int
own_bytes(gp__arena *memory, const void **at, size_t size)
{
    if (*at != NULL) {
        *at = gp__arena_copy(memory, *at, size);
        return *at != NULL ? 0 : GP_ENOMEM;
    }
    return 0;
}

/* Returns 0, or GP_ENOMEM with nothing to release. */
static int
copy_options(gp__options *options, const gp_client_options *from)
{
    gp_client_options *own = &options->view;
    char *members = (char *)own;
    gp__arena *memory = &options->memory;
    const void *versions = from->versions_count > 0 ? from->versions : NULL;
    const void *checksum = from->checksum_hash != NULL ? from->checksum : NULL;
    int rc = 0;

    *options = (gp__options){.view = *from};
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]) && rc == 0; i++) {
        rc = own_string(memory, (const char **)(void *)(members + strings[i]));
    }
    for (size_t i = 0; i < sizeof(string_arrays) / sizeof(string_arrays[0]) && rc == 0; i++) {
        rc = own_strings(memory, (const char *const **)(void *)(members + string_arrays[i]));
    }
    rc = rc == 0 ? own_bytes(memory, &versions, from->versions_count * sizeof(int)) : rc;
    rc = rc == 0 ? own_bytes(memory, &checksum, from->checksum_len) : rc;
    if (rc < 0) {
        gp__arena_release(memory);
        return rc;
    }
    own->versions = versions;
    own->checksum = checksum;
    if (own->channel_args != NULL) {
        gp_channel_args_ref(own->channel_args);
    }
    if (own->tmpl != NULL) {
        gp_template_ref(own->tmpl);
    }
    return 0;
}

int
gp__options_init(gp__options *options, const gp_client_options *from, gp_error *err)
{
    int rc = check_options(from, err);

    if (rc == 0 && (rc = copy_options(options, from)) < 0) {
        gp_error_set(err, rc, "out of memory for a plugin's options");
    }
    if (rc < 0) {
        gp__options_discard(from);
        return rc;
    }
    options->owned = GP__OPTIONS_LOG | GP__OPTIONS_OUTPUT | GP__OPTIONS_RUNNER | GP__OPTIONS_EXIT;
    return 0;
}

static void
release_owned(const gp_client_options *options, unsigned which)
{
    if ((which & GP__OPTIONS_LOG) != 0 && options->log.release != NULL) {
        options->log.release(options->log.ctx);
    }
    if ((which & GP__OPTIONS_OUTPUT) != 0 && options->output.release != NULL) {
        options->output.release(options->output.ctx);
    }
    if ((which & GP__OPTIONS_RUNNER) != 0 && options->runner.start != NULL) {
        options->runner.release(options->runner.ctx);
    }
    if ((which & GP__OPTIONS_EXIT) != 0 && options->exit.exited != NULL &&
        options->exit.release != NULL) {
        options->exit.release(options->exit.ctx);
    }
}

void
gp__options_discard(const gp_client_options *options)
{
    release_owned(options, ~0U);
}

void
gp__options_hand_over(gp__options *options, unsigned which)
{
    options->owned &= ~which;
}

void
gp__options_release(gp__options *options)
{
    release_owned(&options->view, options->owned);
    options->owned = 0;
    gp_channel_args_unref(options->view.channel_args);
    options->view.channel_args = NULL;
    gp_template_unref(options->view.tmpl);
    options->view.tmpl = NULL;
    gp__arena_release(&options->memory);
}
