#include "netrpc/transport_hold.h"

static size_t
use_no_bytes(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    return 0;
}

static void
ignore_end(void *ctx, const gp_error *why)
{
    (void)ctx;
    (void)why;
}

void
gp__transport_stream_hold_locked(gp__transport_stream *stream)
{
    static const gp__transport_stream_ops ops = {.received = use_no_bytes, .ended = ignore_end};

    gp__transport_stream_use_locked(stream, &ops, NULL);
}
