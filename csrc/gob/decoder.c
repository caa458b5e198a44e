#include "gob/decoder.h"

#include <string.h>

#include "base/alloc.h"
#include "gob/path.h"

/* A message of so many bytes that is alone in the input takes the input's memory with it. */
enum { LARGE = 4096 };

/* More memory of the input is freed when there is nothing in it. */
enum { KEPT = 1 << 20 };

/* How much memory plans may take: some anyway, and more if more definitions are allowed. */
enum { PLANS_ANYWAY = 1 << 20, PLANS_PER_DEFINITION = 64 };

/* ---- Life ------------------------------------------------------------------------------------ */

static int find_for_skim(void *ctx, int64_t id, const gp_gob_wire_type **out, gp_error *err);
static int define_in_value(void *ctx, int64_t id, const unsigned char *start,
                           gp__gob_cursor *cursor, gp_error *err);

static const gp__gob_skim_ops skim_ops = {.find = find_for_skim, .define = define_in_value};

int
gp_gob_decoder_new(gp_gob_decoder **out, const gp_gob_limits *limits, gp_error *err)
{
    gp_gob_decoder *decoder = gp__calloc(1, sizeof(*decoder));

    if (decoder == NULL) {
        return gp_error_set(err, GP_ENOMEM, "a gob decoder");
    }
    atomic_init(&decoder->refs, 1);
    gp_mutex_init(&decoder->lock);
    gp_mutex_lock(&decoder->lock);
    gp__gob_types_init(&decoder->types, limits);
    gp__gob_plans_init(&decoder->plans,
                       PLANS_ANYWAY + decoder->types.limits.definitions * PLANS_PER_DEFINITION);
    decoder->depth = decoder->types.limits.depth;
    decoder->name = decoder->types.limits.name;
    decoder->slots = decoder->types.limits.slots;
    decoder->message = decoder->types.limits.message;
    gp_mutex_unlock(&decoder->lock);
    gp__gob_skim_init(&decoder->skim, &skim_ops, decoder, decoder->depth, decoder->name);
    *out = decoder;
    return 0;
}

gp_gob_decoder *
gp_gob_decoder_ref(gp_gob_decoder *decoder)
{
    atomic_fetch_add(&decoder->refs, 1);
    return decoder;
}

void
gp_gob_decoder_unref(gp_gob_decoder *decoder)
{
    if (decoder == NULL || atomic_fetch_sub(&decoder->refs, 1) > 1) {
        return;
    }
    gp__buf_release(&decoder->body);
    gp__gob_skim_release(&decoder->skim);
    gp__fifo_release(&decoder->input);
    gp_error_release(&decoder->failure);
    gp_mutex_lock(&decoder->lock);
    gp__gob_plans_release(&decoder->plans);
    gp__gob_types_release(&decoder->types);
    gp_mutex_unlock(&decoder->lock);
    gp_mutex_release(&decoder->lock);
    gp__free(decoder);
}

/* ---- Types and plans ------------------------------------------------------------------------- */

int
gp__gob_decoder_find_type(gp_gob_decoder *decoder, int64_t id, const gp_gob_wire_type **out,
                          gp_error *err)
{
    int rc;

    gp_mutex_lock(&decoder->lock);
    rc = gp__gob_types_find(&decoder->types, id, out, err);
    gp_mutex_unlock(&decoder->lock);
    return rc;
}

int
gp__gob_decoder_find_plan(gp_gob_decoder *decoder, const gp_gob_wire_type *wire,
                          const gp_gob_type *type, const gp__gob_plan **out, gp_error *err)
{
    int rc;

    gp_mutex_lock(&decoder->lock);
    rc = gp__gob_plans_get(&decoder->plans, wire, type, out, err);
    gp_mutex_unlock(&decoder->lock);
    return rc;
}

static int
define_type(gp_gob_decoder *decoder, int64_t id, gp__gob_cursor *cursor, gp_error *err)
{
    int rc;

    gp_mutex_lock(&decoder->lock);
    rc = gp__gob_types_define(&decoder->types, id, cursor, err);
    gp_mutex_unlock(&decoder->lock);
    return rc;
}

/* ---- Messages -------------------------------------------------------------------------------- */

static int
keep_bytes(gp_gob_decoder *decoder, const unsigned char *end, gp_error *err)
{
    size_t len = (size_t)(end - decoder->kept);

    if (len > decoder->message - decoder->body.len) {
        return gp__gob_corrupt(err, "a gob value is longer than %zu bytes", decoder->message);
    }
    if (gp__buf_append(&decoder->body, decoder->kept, len) < 0) {
        return gp_error_set(err, GP_ENOMEM, "a gob message");
    }
    return 0;
}

static int
find_for_skim(void *ctx, int64_t id, const gp_gob_wire_type **out, gp_error *err)
{
    return gp__gob_decoder_find_type(ctx, id, out, err);
}

static int
define_in_value(void *ctx, int64_t id, const unsigned char *start, gp__gob_cursor *cursor,
                gp_error *err)
{
    gp_gob_decoder *decoder = ctx;
    uint64_t length;
    int rc = define_type(decoder, id, cursor, err);

    if (rc == 0 && gp__gob_left(cursor) > 0 && !gp__gob_get_uint(cursor, &length)) {
        rc = gp__gob_corrupt(err, "a gob definition is followed by garbage");
    }
    if (rc == 0) {
        rc = keep_bytes(decoder, start, err);
        decoder->kept = cursor->at;
    }
    return rc;
}

/*
 * Look at the next message. Returns 1 with the message and how many bytes of the input it takes, 0
 * if it is not complete, or GP_EGOB.
 */
static int
find_message(const gp_gob_decoder *decoder, gp__gob_cursor *out, size_t *taken, gp_error *err)
{
    const unsigned char *front = gp__fifo_front(&decoder->input);
    gp__gob_cursor cursor = {front, front + decoder->input.len};
    uint64_t len;

    if (decoder->input.len == 0) {
        return 0;
    }
    if (!gp__gob_get_uint(&cursor, &len)) {
        return *front >= 0xf8 ? 0 : gp__gob_corrupt(err, "the length of a gob message is garbled");
    }
    if (len > decoder->message) {
        return gp__gob_corrupt(err, "a gob message has %llu bytes, and %zu are allowed",
                               (unsigned long long)len, decoder->message);
    }
    if (len == 0) {
        return gp__gob_corrupt(err, "a gob message is empty");
    }
    if (len > gp__gob_left(&cursor)) {
        return 0;
    }
    *out = (gp__gob_cursor){cursor.at, cursor.at + len};
    *taken = (size_t)(out->end - front);
    return 1;
}

/* The whole value is in one message, from |cursor| on. */
static int
take_simple(gp_gob_decoder *decoder, const gp__gob_cursor *cursor, size_t taken,
            gp_gob_message *out, gp_error *err)
{
    size_t len = gp__gob_left(cursor);

    if (taken >= LARGE && taken == decoder->input.len) {
        out->memory = decoder->input.data;
        out->body = cursor->at;
        decoder->input = (gp__fifo)GP__FIFO_INIT;
    } else {
        out->memory = gp__memdup(cursor->at, len);
        if (out->memory == NULL) {
            return gp_error_set(err, GP_ENOMEM, "a gob message");
        }
        out->body = out->memory;
        gp__fifo_drop(&decoder->input, taken);
    }
    out->len = len;
    return 1;
}

/* The value is what has been collected, up to |cursor|. What follows in the message is nothing. */
static int
take_collected(gp_gob_decoder *decoder, const gp__gob_cursor *cursor, size_t taken,
               gp_gob_message *out, gp_error *err)
{
    int rc = keep_bytes(decoder, cursor->at, err);

    if (rc < 0) {
        return rc;
    }
    out->memory = decoder->body.data;
    out->body = out->memory;
    out->len = decoder->body.len;
    decoder->body = (gp__buf)GP__BUF_INIT;
    gp__fifo_drop(&decoder->input, taken);
    return 1;
}

/*
 * Take a message that has a value, or the next part of one, from |cursor| on. Returns 1 with the
 * value, 0 if it continues in the next message, or an error.
 */
static int
take_value(gp_gob_decoder *decoder, gp__gob_cursor *cursor, size_t taken, gp_gob_message *out,
           gp_error *err)
{
    const gp__gob_cursor start = *cursor;
    int rc;

    out->type = decoder->type;
    if (!decoder->inside && !decoder->type->dynamic) {
        return take_simple(decoder, cursor, taken, out, err);
    }
    decoder->kept = cursor->at;
    rc = decoder->inside ? gp__gob_skim_continue(&decoder->skim, cursor, err)
                         : gp__gob_skim_value(&decoder->skim, decoder->type, true, cursor, err);
    if (rc < 0) {
        return rc;
    }
    if (rc == 0) {
        rc = keep_bytes(decoder, cursor->at, err);
        decoder->inside = true;
        gp__fifo_drop(&decoder->input, taken);
        return rc;
    }
    decoder->inside = false;
    if (decoder->kept == start.at && decoder->body.len == 0) {
        return take_simple(decoder, &start, taken, out, err);
    }
    return take_collected(decoder, cursor, taken, out, err);
}

/* Returns 1 with a value, 0 if the message has been taken and had none, or an error. */
static int
take_message(gp_gob_decoder *decoder, gp__gob_cursor *cursor, size_t taken, gp_gob_message *out,
             gp_error *err)
{
    int64_t id;
    int rc;

    if (decoder->inside) {
        return take_value(decoder, cursor, taken, out, err);
    }
    if (!gp__gob_get_int(cursor, &id) || id == INT64_MIN) {
        return gp__gob_corrupt(err, "a gob message has no id of a type");
    }
    if (id >= 0) {
        rc = gp__gob_decoder_find_type(decoder, id, &decoder->type, err);
        return rc < 0 ? rc : take_value(decoder, cursor, taken, out, err);
    }
    rc = define_type(decoder, -id, cursor, err);
    if (rc == 0 && gp__gob_left(cursor) > 0) {
        rc = gp__gob_corrupt(err, "a gob definition is followed by garbage");
    }
    if (rc == 0) {
        decoder->defined = true;
        gp__fifo_drop(&decoder->input, taken);
    }
    return rc;
}

static int
next_message(gp_gob_decoder *decoder, gp_gob_message *out, gp_error *err)
{
    gp__gob_cursor cursor;
    size_t taken = 0;
    int rc;

    while ((rc = find_message(decoder, &cursor, &taken, err)) > 0) {
        rc = take_message(decoder, &cursor, taken, out, err);
        if (rc != 0) {
            break;
        }
    }
    if (rc > 0) {
        decoder->defined = false;
    }
    if (decoder->input.len == 0 && decoder->input.cap > KEPT) {
        gp__fifo_release(&decoder->input);
    }
    return rc;
}

int
gp_gob_decoder_feed(gp_gob_decoder *decoder, const void *bytes, size_t len, gp_error *err)
{
    if (decoder->failure.code != 0) {
        return 0; /* gp_gob_decoder_next() says why */
    }
    if (gp__fifo_put(&decoder->input, bytes, len) < 0) {
        return gp_error_set(err, GP_ENOMEM, "gob input");
    }
    return 0;
}

int
gp_gob_decoder_next(gp_gob_decoder *decoder, gp_gob_message *out, gp_error *err)
{
    int rc;

    *out = (gp_gob_message)GP_GOB_MESSAGE_INIT;
    if (decoder->failure.code == 0) {
        rc = next_message(decoder, out, &decoder->failure);
        if (rc >= 0) {
            return rc;
        }
        gp__fifo_release(&decoder->input);
        gp__buf_release(&decoder->body);
    }
    gp_error_set(err, decoder->failure.code, "%s", gp_error_message(&decoder->failure));
    if (err != NULL) {
        err->number = decoder->failure.number;
    }
    return decoder->failure.code;
}

void
gp_gob_message_release(gp_gob_message *message)
{
    gp__free(message->memory);
    *message = (gp_gob_message)GP_GOB_MESSAGE_INIT;
}

bool
gp_gob_decoder_at_end(const gp_gob_decoder *decoder)
{
    return decoder->input.len == 0 && !decoder->inside && !decoder->defined;
}
