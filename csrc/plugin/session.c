#include "plugin/session.h"

#include <string.h>

#include "base/alloc.h"
#include "gp/handshake.h"
#include "plugin/session_grpc.h"

static const gp__protocol *const protocols[] = {&gp__protocol_grpc};

enum { PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]) };

/* The GP_PROTOCOL_* that have an implementation. */
static unsigned
supported_protocols(void)
{
    unsigned bits = 0;

    for (size_t i = 0; i < PROTOCOLS; i++) {
        bits |= protocols[i]->bit;
    }
    return bits;
}

/*
 * The GP_PROTOCOL_* of a plugin to reattach to; 0 if the options do not reattach, or name an
 * unknown protocol, which options.c refuses.
 */
static unsigned
reattach_protocol(const gp_client_options *options)
{
    const char *name = options->reattach_protocol;

    if (options->reattach_network == NULL) {
        return 0;
    }
    if (name == NULL || name[0] == '\0' || strcmp(name, "netrpc") == 0) {
        return GP_PROTOCOL_NETRPC;
    }
    return strcmp(name, "grpc") == 0 ? GP_PROTOCOL_GRPC : 0;
}

int
gp__session_check_options(const gp_client_options *options, gp_error *err)
{
    unsigned asked = options->protocols | reattach_protocol(options);

    if ((asked & ~supported_protocols()) == 0) {
        return 0;
    }
    return gp_error_set(err, GP_EINVAL,
                        "the protocol netrpc is not available in this version of pygo_plugin yet; "
                        "allowed_protocols must be [\"grpc\"]");
}

int
gp__session_new(gp__session **out, const char *protocol, gp_error *err)
{
    for (size_t i = 0; i < PROTOCOLS; i++) {
        gp__session *session;

        if (strcmp(protocols[i]->name, protocol) != 0) {
            continue;
        }
        session = gp__calloc(1, protocols[i]->size);
        if (session == NULL) {
            return gp_error_set(err, GP_ENOMEM, "out of memory for the connection to a plugin");
        }
        session->protocol = protocols[i];
        *out = session;
        return 0;
    }
    return gp_error_set(err, GP_EINVAL, "there is no session for the protocol %s", protocol);
}

int
gp__session_open(gp__session *session, const gp__session_spec *spec, const gp_interrupt *interrupt,
                 gp_error *err)
{
    return session->protocol->open(session, spec, interrupt, err);
}

int
gp__session_ping(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt,
                 gp_error *err)
{
    return session->protocol->ping(session, timeout_ms, interrupt, err);
}

gp_channel *
gp__session_channel(gp__session *session)
{
    return session->protocol->channel(session);
}

gp_broker *
gp__session_broker(gp__session *session)
{
    return session->protocol->broker(session);
}

void
gp__session_cancel_calls(gp__session *session)
{
    if (session != NULL) {
        session->protocol->cancel_calls(session);
    }
}

bool
gp__session_is_connected(gp__session *session)
{
    return session != NULL && session->protocol->is_connected(session);
}

int
gp__session_shutdown(gp__session *session, int64_t timeout_ms, const gp_interrupt *interrupt)
{
    return session != NULL ? session->protocol->shutdown(session, timeout_ms, interrupt)
                           : GP_ECLOSED;
}

int
gp__session_await_output(gp__session *session, int64_t deadline, const gp_interrupt *interrupt)
{
    return session != NULL ? session->protocol->await_output(session, deadline, interrupt) : 0;
}

void
gp__session_disconnect(gp__session *session)
{
    if (session != NULL) {
        session->protocol->disconnect(session);
    }
}

void
gp__session_close(gp__session *session, const gp__leftover *left)
{
    if (session != NULL) {
        session->protocol->close(session, left);
    }
}

void
gp__session_free(gp__session *session)
{
    if (session != NULL) {
        session->protocol->release(session);
        gp__free(session);
    }
}
