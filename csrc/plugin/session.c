#include "plugin/session.h"

#include <string.h>

#include "base/alloc.h"
#include "plugin/session_grpc.h"
#include "plugin/session_netrpc.h"

static const gp__protocol *const protocols[] = {&gp__protocol_grpc, &gp__protocol_netrpc};

enum { PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]) };

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
    return session->protocol->channel != NULL ? session->protocol->channel(session) : NULL;
}

gp_broker *
gp__session_broker(gp__session *session)
{
    return session->protocol->broker != NULL ? session->protocol->broker(session) : NULL;
}

gp_mux_broker *
gp__session_mux_broker(gp__session *session)
{
    return session->protocol->mux_broker != NULL ? session->protocol->mux_broker(session) : NULL;
}

int
gp__session_dispense(gp__session *session, const char *name, const gp_gob_limits *limits,
                     int64_t deadline, const gp_interrupt *interrupt, gp_netrpc_client **out,
                     gp_error *err)
{
    const gp__protocol *protocol = session->protocol;

    if (protocol->dispense == NULL) {
        return gp_error_set(err, GP_EINVAL, "a plugin that speaks %s dispenses nothing by net/rpc",
                            protocol->name);
    }
    return protocol->dispense(session, name, limits, deadline, interrupt, out, err);
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
