#include "netrpc/workers.h"

#include "netrpc/transport_state.h"

void
gp__transport_service_init_locked(gp__transport *transport)
{
    gp_list_init(&transport->service.turns);
    gp_list_init(&transport->service.running);
}

bool
gp__transport_service_tick_locked(gp__transport *transport)
{
    return gp__transport_service_is_busy_locked(transport);
}

bool
gp__transport_service_is_busy_locked(const gp__transport *transport)
{
    return !gp_list_is_empty(&transport->service.running);
}

void
gp__transport_service_begin_wait_locked(gp__transport *transport)
{
    (void)transport;
}

void
gp__transport_service_end_wait_locked(gp__transport *transport)
{
    (void)transport;
}
