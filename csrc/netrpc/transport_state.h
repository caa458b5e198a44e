/*
 * Layer: netrpc. What the files of a transport (netrpc/transport.h) share.
 */
#ifndef GP_NETRPC_TRANSPORT_STATE_H
#define GP_NETRPC_TRANSPORT_STATE_H

#include "netrpc/transport.h"

/* ---- transport.c ---- */

static inline bool gp__transport_is_over_locked(const gp__transport *transport)
    GP_REQUIRES(&transport->lock);

static inline bool
gp__transport_is_over_locked(const gp__transport *transport)
{
    return transport->channel.why.code != 0;
}

/* Copy |from|, with its evidence. |to| is empty. */
void gp__transport_copy_error(gp_error *to, const gp_error *from);

/* What the connection's descriptor is to be waited for. */
unsigned gp__transport_events_locked(const gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Read what has come, pass it to the streams, and send what there is to send. */
void gp__transport_dispatch_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Close the connection's stream, if it is over. No thread polls it. */
void gp__transport_close_stream_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Send as much of the output as the connection takes, without calling back. */
void gp__transport_send_output_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Raw: end this side's direction once everything is sent. */
void gp__transport_shutdown_output_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Whether the output is full, so that streams have to wait. */
bool gp__transport_is_full_locked(const gp__transport *transport) GP_REQUIRES(&transport->lock);

/* ---- transport_stream.c ---- */

/* Handle an event of the yamux session. The session may be over after this. */
void gp__transport_streams_event_locked(gp__transport *transport, const gp__yamux_event *event)
    GP_REQUIRES(&transport->lock);

/* Pass data of a raw connection to its stream. */
void gp__transport_streams_raw_data_locked(gp__transport *transport, const unsigned char *bytes,
                                           size_t len) GP_REQUIRES(&transport->lock);

/* The other side of a raw connection has ended its direction. */
void gp__transport_streams_raw_end_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Whether a raw connection is to be read. */
bool gp__transport_streams_raw_wants_data_locked(const gp__transport *transport)
    GP_REQUIRES(&transport->lock);

/* Let streams write that wait for room in the output, as long as there is room. */
void gp__transport_streams_write_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Whether any stream has output that has found no room yet. */
bool gp__transport_streams_have_output_locked(const gp__transport *transport)
    GP_REQUIRES(&transport->lock);

/* End all streams with the transport's reason, and free those that are released. */
void gp__transport_streams_end_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* ---- transport_driver.c ---- */

int gp__transport_role_open_locked(gp__transport *transport, gp_error *err)
    GP_REQUIRES(&transport->lock);

/* The connection is over: nothing waits for it any more. */
void gp__transport_role_end_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* With the last reference gone, and no lock held. */
void gp__transport_role_release(gp__transport *transport);

/*
 * What gp__transport_events_locked() says may have changed: tell the driver, or the reactor. Does
 * nothing while dispatching, which ends with looking at it.
 */
void gp__transport_role_update_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* For workers: take the role, which is free. */
void gp__transport_role_take_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Give the role up, and wake the thread that has slept for longest to take it, if there is one. */
void gp__transport_role_give_up_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* If no thread drives or is about to: have the reactor watch, without waiting for a tick. */
void gp__transport_role_watch_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/*
 * With the role: wait until the connection is ready, or this thread is woken, or |deadline|, and
 * dispatch. Releases and re-acquires the lock. Returns false at the deadline.
 */
bool gp__transport_role_drive_locked(gp__transport *transport, int64_t deadline)
    GP_REQUIRES(&transport->lock);

/* Wake the thread that drives. */
void gp__transport_role_wake_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* ---- workers.c ---- */

void gp__transport_service_init_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/*
 * A tick of the transport has passed: find out which tasks are slow. Returns whether tasks run or
 * wait, so that further ticks are needed.
 */
bool gp__transport_service_tick_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

/* Whether tasks run or wait. */
bool gp__transport_service_is_busy_locked(const gp__transport *transport)
    GP_REQUIRES(&transport->lock);

/*
 * Called before and after this thread waits on |transport|: if it is a worker that runs a task of
 * the same transport, it cannot look for tasks meanwhile.
 */
void gp__transport_service_begin_wait_locked(gp__transport *transport)
    GP_REQUIRES(&transport->lock);
void gp__transport_service_end_wait_locked(gp__transport *transport) GP_REQUIRES(&transport->lock);

#endif
