/* Two sessions that send each other bytes, which are cut into pieces of any size. */
#include "base/alloc.h"
#include "yamux_fixture.h"

enum { MOST_STREAMS = 400 };

typedef struct end {
    struct pair *pair;
    gp__yamux *session;
    struct side {
        gp__yamux_stream *stream;
        size_t to_send;
        size_t sent;
        size_t received;
        size_t unconsumed; /* received and not yet used up */
        bool ended;
        bool reset;
    } sides[MOST_STREAMS]; /* by number of stream */
} end;

typedef struct pair {
    end ends[2];
    unsigned random;
    bool failed; /* memory was short: sessions may have ended */
} pair;

static unsigned
draw(pair *both, unsigned below)
{
    both->random = both->random * 1103515245u + 12345u;
    return (both->random >> 8) % below;
}

/* What stream |number| carries at |offset|, in this direction. */
static unsigned char
pattern(size_t number, size_t offset, bool client)
{
    return (unsigned char)(offset * 7 + offset / 251 + number * 31 + (client ? 128 : 0));
}

static void
send_some(end *at, size_t number)
{
    struct side *side = &at->sides[number];
    bool client = at == &at->pair->ends[0];
    unsigned char *room;
    ptrdiff_t some;

    while (side->stream != NULL && side->sent < side->to_send) {
        size_t want = 1 + draw(at->pair, 100000);

        want = want < side->to_send - side->sent ? want : side->to_send - side->sent;
        some = gp__yamux_stream_reserve(side->stream, &room, want);
        if (some <= 0) {
            assert_true(some == 0 || alloc_failures() > 0 || side->reset);
            return;
        }
        for (ptrdiff_t i = 0; i < some; i++) {
            room[i] = pattern(number, side->sent + (size_t)i, client);
        }
        gp__yamux_stream_commit(side->stream, (size_t)some);
        side->sent += (size_t)some;
    }
    if (side->stream != NULL && side->sent == side->to_send) {
        gp__yamux_stream_shutdown(side->stream);
    }
}

static void
take_event(end *at, const gp__yamux_event *event)
{
    bool client = at == &at->pair->ends[0];
    size_t number = event->stream != NULL ? (gp__yamux_stream_id(event->stream) - 1) / 2 : 0;
    struct side *side = &at->sides[number];

    assert_true(number < MOST_STREAMS);
    switch (event->kind) {
    case GP__YAMUX_OPENED:
        side->stream = event->stream;
        gp__yamux_stream_accept(event->stream, side);
        break;
    case GP__YAMUX_DATA:
        assert_ptr_equal(gp__yamux_stream_ctx(event->stream), side);
        for (size_t i = 0; i < event->len; i++) {
            assert_int_equal(event->data[i], pattern(number, side->received + i, !client));
        }
        side->received += event->len;
        side->unconsumed += event->len;
        break;
    case GP__YAMUX_ENDED:
        assert_false(side->ended);
        side->ended = true;
        break;
    case GP__YAMUX_RESET:
        side->reset = true;
        break;
    default:
        break;
    }
}

/* Carry bytes from one end to the other in chunks of any size. */
static bool
carry(end *from, end *to)
{
    gp__yamux_event event;
    size_t len;
    const unsigned char *out = gp__yamux_output(from->session, &len);
    size_t chunk = len > 0 ? 1 + draw(from->pair, draw(from->pair, 3) == 0 ? 40 : 70000) : 0;
    int rc;

    chunk = chunk < len ? chunk : len;
    do {
        const unsigned char *before = out;

        rc = gp__yamux_receive(to->session, &out, &chunk, &event, NULL);
        gp__yamux_sent(from->session, (size_t)(out - before));
        out = gp__yamux_output(from->session, &len);
        if (rc > 0) {
            /* The event points into what was just dropped, whose bytes stay until more is put. */
            take_event(to, &event);
        }
    } while (rc > 0);
    assert_true(rc == 0 || alloc_failures() > 0);
    return rc == 0;
}

static bool
send_and_consume(end *at, size_t streams)
{
    bool busy = false;

    for (size_t i = 0; i < streams; i++) {
        struct side *side = &at->sides[i];

        if (side->stream == NULL) {
            continue;
        }
        if (side->unconsumed > 0 && draw(at->pair, 4) == 0) {
            gp__yamux_stream_consumed(side->stream, side->unconsumed);
            side->unconsumed = 0;
        }
        send_some(at, i);
        busy = true;
        if (side->reset || (side->ended && side->sent == side->to_send && side->unconsumed == 0)) {
            gp__yamux_stream_release(side->stream);
            side->stream = NULL;
        }
    }
    return busy;
}

/*
 * Open |streams| streams, carry up to |most| bytes through each in both directions, close them all.
 */
static void
run_pair(pair *both, size_t streams, unsigned most, uint32_t window)
{
    const gp__yamux_options options[2] = {{.client = true, .window = window, .backlog = 5},
                                          {.client = false, .window = window}};
    bool busy = true;

    for (int i = 0; i < 2; i++) {
        both->ends[i].pair = both;
        if (gp__yamux_new(&both->ends[i].session, &options[i], 0, NULL) < 0) {
            both->failed = true;
        }
    }
    for (size_t i = 0; i < streams && !both->failed; i++) {
        struct side *side = &both->ends[0].sides[i];

        side->to_send = draw(both, most);
        both->ends[1].sides[i].to_send = draw(both, most);
        if (gp__yamux_open(&side->stream, both->ends[0].session, side, NULL) < 0) {
            both->failed = true;
        }
    }
    while (busy && both->ends[0].session != NULL && both->ends[1].session != NULL) {
        both->failed = both->failed || alloc_failures() > 0;
        if (!carry(&both->ends[0], &both->ends[1]) || !carry(&both->ends[1], &both->ends[0])) {
            break;
        }
        busy = send_and_consume(&both->ends[0], streams);
        busy = send_and_consume(&both->ends[1], streams) || busy;
    }
    both->failed = both->failed || alloc_failures() > 0;
    for (size_t i = 0; i < streams && !both->failed; i++) {
        for (int k = 0; k < 2; k++) {
            assert_true(both->ends[k].sides[i].ended);
            assert_int_equal(both->ends[k].sides[i].received, both->ends[1 - k].sides[i].to_send);
        }
    }
    for (int k = 0; k < 2; k++) {
        if (!both->failed) {
            assert_int_equal(gp__yamux_count(both->ends[k].session), 0);
        }
        gp__yamux_free(both->ends[k].session);
    }
}

static void
random_boundaries(void **state)
{
    static pair both;

    (void)state;
    for (unsigned seed = 1; seed <= 12; seed++) {
        memset(&both, 0, sizeof(both));
        both.random = seed;
        run_pair(&both, seed % 3 == 0 ? MOST_STREAMS : 1 + seed,
                 seed % 3 == 0 ? 20000 : 1500000 / seed, seed % 2 == 0 ? 0 : 1 << 20);
        assert_false(both.failed);
    }
}

static void
every_allocation_fails(void **state)
{
    static pair both;
    long failing = 0;
    bool failed;

    (void)state;
    do {
        memset(&both, 0, sizeof(both));
        both.random = 5;
        alloc_begin(failing++);
        run_pair(&both, 40, 30000, 0);
        failed = alloc_failures() > 0;
        alloc_end();
    } while (failed);
    assert_true(failing > 40);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_boundaries),
        cmocka_unit_test(every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
