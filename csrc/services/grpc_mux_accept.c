#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "os/socket.h"
#include "services/grpc_mux_state.h"

/*
 * How long a knock that comes early waits for its accept. Less than what its dialler waits: an
 * answer that crosses with its giving up would open a door that nobody walks through.
 */
static const int64_t early_ms = 4500;

/* With the lock held. */
static void
drop_expected(gp_grpc_mux *mux, size_t index)
{
    mux->expected_count--;
    memmove(&mux->expected[index], &mux->expected[index + 1],
            (mux->expected_count - index) * sizeof(mux->expected[0]));
}

/*
 * With the lock held: say yes to that knock, and give its stream to |one|.
 *
 * A knock with a mark gets its stream in any case, in its turn. Without one the last knock counts:
 * the dialler (go-plugin's) opens its stream before it knocks again, unless it has given up.
 */
static void
expect(gp_grpc_mux *mux, gp__grpc_mux_knock knock, const gp__grpc_mux_server *one)
{
    gp__grpc_mux_expected *last;

    if (!gp__grpc_mux_write(mux, (gp__grpc_mux_letter){knock, ""})) {
        return;
    }
    if (knock.mark == 0) {
        mux->expected_count = 0;
    } else if (mux->expected_count == GP__GRPC_MUX_EXPECTED) {
        drop_expected(mux, 0);
    }
    last = &mux->expected[mux->expected_count++];
    last->knock = knock;
    last->until = gp_deadline_in(gp__knock_ms);
    memcpy(last->path, one->path, sizeof(last->path));
}

void
gp__grpc_mux_unanswered(gp_grpc_mux *mux, gp__grpc_mux_knock knock)
{
    for (size_t i = 0; i < mux->expected_count; i++) {
        if (mux->expected[i].knock.id == knock.id && mux->expected[i].knock.mark == knock.mark) {
            drop_expected(mux, i);
            break;
        }
    }
}

static gp__grpc_mux_server *
find_server(gp_grpc_mux *mux, uint32_t id)
{
    gp__grpc_mux_server *one = mux->servers;

    while (one != NULL && one->id != id) {
        one = one->next;
    }
    return one;
}

/* With the lock held. Where |id| is among those that are not accepted any more; NULL: nowhere. */
static uint32_t *
find_forgotten(gp_grpc_mux *mux, uint32_t id)
{
    for (size_t i = 0; id != 0 && i < GP__GRPC_MUX_FORGOTTEN; i++) {
        if (mux->forgotten[i] == id) {
            return &mux->forgotten[i];
        }
    }
    return NULL;
}

void
gp__grpc_mux_knocked(gp_grpc_mux *mux, uint32_t id, uint32_t mark)
{
    const gp__grpc_mux_knock knock = {id, mark};
    gp__grpc_mux_server *server;

    gp_mutex_lock(&mux->lock);
    server = find_server(mux, id);
    mux->early_until = 0; /* who knocks again has given up what he had knocked for */
    if (server != NULL) {
        expect(mux, knock, server);
    } else if (find_forgotten(mux, id) != NULL) {
        /* Silence would have it wait, and all who dial after it. */
        gp__grpc_mux_write(mux, (gp__grpc_mux_letter){knock, "it is not accepted any more"});
    } else {
        mux->early = knock;
        mux->early_until = gp_deadline_in(early_ms);
    }
    gp_mutex_unlock(&mux->lock);
    gp__grpc_mux_say(mux);
}

int
gp__grpc_mux_accept(gp_grpc_mux *mux, uint32_t id, const char *path, gp_error *err)
{
    gp__grpc_mux_server *one = gp__calloc(1, sizeof(*one));
    char reason[GP__GRPC_MUX_REASON];
    bool ended;

    if (one == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for connection %u", (unsigned)id);
    }
    one->id = id;
    snprintf(one->path, sizeof(one->path), "%s", path);
    gp_mutex_lock(&mux->lock);
    ended = mux->closed || mux->over;
    gp__grpc_mux_reason(mux, reason);
    if (!ended) {
        uint32_t *before = find_forgotten(mux, id);

        if (before != NULL) {
            *before = 0;
        }
        one->next = mux->servers;
        mux->servers = one;
        if (mux->early.id == id && gp__now() < mux->early_until) {
            mux->early_until = 0;
            expect(mux, mux->early, one);
        }
    }
    gp_mutex_unlock(&mux->lock);
    if (ended) {
        gp__free(one);
        return gp_error_set(err, GP_EBROKER,
                            "connection %u cannot be accepted: the connection has ended%s",
                            (unsigned)id, reason);
    }
    gp__grpc_mux_say(mux);
    return 0;
}

/* A stream that it was promised is still its own, and will find nobody. */
void
gp__grpc_mux_forget(gp_grpc_mux *mux, uint32_t id)
{
    gp_mutex_lock(&mux->lock);
    for (gp__grpc_mux_server **at = &mux->servers; *at != NULL; at = &(*at)->next) {
        if ((*at)->id == id) {
            gp__grpc_mux_server *one = *at;

            *at = one->next;
            gp__free(one);
            mux->forgotten[mux->forgotten_at] = id;
            mux->forgotten_at = (mux->forgotten_at + 1) % GP__GRPC_MUX_FORGOTTEN;
            break;
        }
    }
    gp_mutex_unlock(&mux->lock);
}

/* What nobody has knocked for is a host's connection of the start. */
int
gp__grpc_mux_opened(void *ctx)
{
    gp_grpc_mux *mux = ctx;
    char path[GP__GRPC_MUX_PATH] = "";
    int fd = -1;

    gp_mutex_lock(&mux->lock);
    if (mux->expected_count > 0 && mux->expected[0].knock.mark == 0 &&
        gp__now() >= mux->expected[0].until) {
        drop_expected(mux, 0); /* its dialler has given up */
    }
    if (mux->expected_count > 0) {
        memcpy(path, mux->expected[0].path, sizeof(path));
        drop_expected(mux, 0);
    } else if (!mux->client) {
        memcpy(path, mux->main_path, sizeof(path));
    }
    gp_mutex_unlock(&mux->lock);
    /* To a unix socket there is nothing to wait for: it connects at once or not at all. */
    if (path[0] != '\0') {
        gp__socket_connect(&fd, "unix", path, gp__now(), NULL, NULL);
    }
    return fd;
}

void
gp__grpc_mux_accept_close(gp_grpc_mux *mux)
{
    gp_mutex_lock(&mux->lock);
    while (mux->servers != NULL) {
        gp__grpc_mux_server *next = mux->servers->next;

        gp__free(mux->servers);
        mux->servers = next;
    }
    gp_mutex_unlock(&mux->lock);
}
