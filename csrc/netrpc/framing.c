#include "netrpc/framing.h"

#include <stdatomic.h>
#include <stddef.h>

/* A value of up to this size is copied behind its head, so that both are sent as one piece. */
enum { GATHERED = 16 * 1024 };

/* ---- The types of heads ---------------------------------------------------------------------- */

/* A type that is made at first use and kept until the process ends. */
typedef struct head_type {
    const char *name;
    const gp_gob_member *members;
    size_t count;
    _Atomic(gp_gob_type *) made; /* NULL until it is first needed */
} head_type;

static const gp_gob_member request_members[] = {
    {"ServiceMethod", GP_GOB_STRING, offsetof(gp__netrpc_request_head, method)},
    {"Seq", GP_GOB_UINT, offsetof(gp__netrpc_request_head, seq)},
};

static const gp_gob_member response_members[] = {
    {"ServiceMethod", GP_GOB_STRING, offsetof(gp__netrpc_response_head, method)},
    {"Seq", GP_GOB_UINT, offsetof(gp__netrpc_response_head, seq)},
    {"Error", GP_GOB_STRING, offsetof(gp__netrpc_response_head, error)},
};

static head_type request_type = {"Request", request_members, 2, NULL};
static head_type response_type = {"Response", response_members, 3, NULL};
static head_type empty_type = {NULL, NULL, 0, NULL};

/* Returns 0 or GP_ENOMEM. */
static int
make_type(head_type *type, gp_error *err)
{
    gp_gob_type *made;
    gp_gob_type *expected = NULL;
    int rc;

    if (atomic_load_explicit(&type->made, memory_order_acquire) != NULL) {
        return 0;
    }
    rc = gp_gob_record_new(&made, type->name, type->members, type->count, err);
    if (rc == 0 && !atomic_compare_exchange_strong(&type->made, &expected, made)) {
        gp_gob_type_unref(made); /* another thread was faster */
    }
    return rc;
}

/* Borrowed. Once a framing exists, the type does. */
static const gp_gob_type *
made_type(head_type *type)
{
    return atomic_load_explicit(&type->made, memory_order_acquire);
}

/* ---- Framing --------------------------------------------------------------------------------- */

int
gp__netrpc_framing_init(gp__netrpc_framing *framing, const gp_gob_limits *limits, gp_error *err)
{
    *framing = (gp__netrpc_framing){.buffer = GP__BUF_INIT};
    if (make_type(&request_type, err) < 0 || make_type(&response_type, err) < 0 ||
        make_type(&empty_type, err) < 0 || gp_gob_encoder_new(&framing->encoder, err) < 0) {
        return GP_ENOMEM;
    }
    if (gp_gob_decoder_new(&framing->decoder, limits, err) < 0) {
        goto fail_decoder;
    }
    if (gp_gob_output_new(&framing->head, err) < 0) {
        goto fail_head;
    }
    return 0;

fail_head:
    gp_gob_decoder_unref(framing->decoder);
fail_decoder:
    gp_gob_encoder_free(framing->encoder);
    return GP_ENOMEM;
}

void
gp__netrpc_framing_release(gp__netrpc_framing *framing)
{
    gp__buf_release(&framing->buffer);
    gp_gob_output_free(framing->head);
    gp_gob_decoder_unref(framing->decoder);
    gp_gob_encoder_free(framing->encoder);
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* Send the head that is in |framing->head|, and |body|. */
static int
send_locked(gp__netrpc_framing *framing, gp__transport_stream *stream, gp_gob_output *body,
            gp_error *err)
{
    gp__buf *buffer = &framing->buffer;
    gp_gob_part parts[4];
    int gathered = 3;
    int rc;

    if (gp_gob_encoder_commit(framing->encoder, framing->head, err) < 0 ||
        gp_gob_encoder_commit(framing->encoder, body, err) < 0) {
        return GP_ENOMEM;
    }
    gp_gob_output_parts(framing->head, parts);
    gp_gob_output_parts(body, parts + 2);
    gathered += parts[3].len <= GATHERED;
    buffer->len = 0;
    for (int i = 0; i < gathered; i++) {
        if (gp__buf_append(buffer, parts[i].bytes, parts[i].len) < 0) {
            return gp_error_set(err, GP_ENOMEM, "out of memory for a message");
        }
    }
    rc = gp__transport_stream_send_locked(stream, buffer->data, buffer->len, err);
    if (rc == 0 && gathered < 4) {
        rc = gp__transport_stream_send_locked(stream, parts[3].bytes, parts[3].len, err);
    }
    return rc;
}

/* Send the head that is in |framing->head|, and the empty struct that stands for no reply. */
static int
send_empty_locked(gp__netrpc_framing *framing, gp__transport_stream *stream, gp_error *err)
{
    gp_gob_output *empty;
    int rc = gp_gob_output_new(&empty, err);

    if (rc < 0) {
        return rc;
    }
    rc = gp_gob_record_encode(empty, made_type(&empty_type), NULL, err);
    if (rc == 0) {
        rc = send_locked(framing, stream, empty, err);
    }
    gp_gob_output_free(empty);
    return rc;
}

int
gp__netrpc_framing_send_request_locked(gp__netrpc_framing *framing, gp__transport_stream *stream,
                                       const gp__netrpc_request_head *head, gp_gob_output *body,
                                       gp_error *err)
{
    int rc = gp_gob_record_encode(framing->head, made_type(&request_type), head, err);

    return rc < 0 ? rc : send_locked(framing, stream, body, err);
}

int
gp__netrpc_framing_send_response_locked(gp__netrpc_framing *framing, gp__transport_stream *stream,
                                        const gp__netrpc_response_head *head, gp_gob_output *body,
                                        gp_error *err)
{
    int rc = gp_gob_record_encode(framing->head, made_type(&response_type), head, err);

    if (rc < 0) {
        return rc;
    }
    return body != NULL ? send_locked(framing, stream, body, err)
                        : send_empty_locked(framing, stream, err);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

int
gp__netrpc_framing_read_request(gp__netrpc_framing *framing, const gp_gob_message *message,
                                gp__netrpc_request_head *out, gp_error *err)
{
    return gp_gob_record_decode(framing->decoder, message, made_type(&request_type), out, err);
}

int
gp__netrpc_framing_read_response(gp__netrpc_framing *framing, const gp_gob_message *message,
                                 gp__netrpc_response_head *out, gp_error *err)
{
    return gp_gob_record_decode(framing->decoder, message, made_type(&response_type), out, err);
}
