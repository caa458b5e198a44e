/* Structs of C, without a source or a sink. */
#include <string.h>

#include "gob/decoder.h"
#include "gob/output.h"
#include "gob/path.h"
#include "gob/type.h"

/* ---- Encoding -------------------------------------------------------------------------------- */

/*
 * Append a member, as the field that is |delta| after the last one. Returns 1, or 0 if it is zero
 * and left out, or GP_ENOMEM.
 */
static int
put_member(gp_gob_output *out, const gp_gob_member *member, const void *record, uint64_t delta)
{
    const char *at = (const char *)record + member->offset;
    gp_gob_text text = {NULL, 0};
    uint64_t number;

    switch (member->kind) {
    case GP_GOB_BOOL:
        number = *(const bool *)at;
        break;
    case GP_GOB_INT:
        number = gp__gob_uint_of(*(const int64_t *)(const void *)at);
        break;
    case GP_GOB_UINT:
        number = *(const uint64_t *)(const void *)at;
        break;
    default:
        text = *(const gp_gob_text *)(const void *)at;
        number = text.len;
        break;
    }
    if (number == 0 && delta > 0) {
        return 0;
    }
    if (text.len > SIZE_MAX / 4 ||
        gp__gob_output_reserve(out, 2 * GP__GOB_UINT_MOST + text.len) < 0) {
        return GP_ENOMEM;
    }
    if (delta > 0) {
        gp__gob_output_put(out, delta);
    }
    gp__gob_output_put(out, number);
    if (text.len > 0) {
        memcpy(out->message.data + out->message.len, text.data, text.len);
        out->message.len += text.len;
    }
    return 1;
}

static int
put_members(gp_gob_output *out, const gp_gob_type *type, const void *record)
{
    size_t sent = 0;

    if (type->kind != GP_GOB_STRUCT) {
        return put_member(out, &type->members[0], record, 0);
    }
    for (size_t i = 0; i < type->field_count; i++) {
        int rc = put_member(out, &type->members[i], record, i + 1 - sent);

        if (rc < 0) {
            return rc;
        }
        sent = rc > 0 ? i + 1 : sent;
    }
    if (gp__gob_output_reserve(out, 1) < 0) {
        return GP_ENOMEM;
    }
    gp__gob_output_put(out, 0);
    return 0;
}

int
gp_gob_record_encode(gp_gob_output *out, const gp_gob_type *type, const void *record, gp_error *err)
{
    int rc = gp__gob_output_begin(out, type, err);

    if (rc < 0) {
        return rc;
    }
    if (put_members(out, type, record) < 0) {
        gp__gob_output_clear(out);
        return gp_error_set(err, GP_ENOMEM, "gob output");
    }
    gp__gob_output_finish(out);
    return 0;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static void
set_zero(const gp_gob_member *member, void *record)
{
    char *at = (char *)record + member->offset;

    switch (member->kind) {
    case GP_GOB_BOOL:
        *(bool *)at = false;
        break;
    case GP_GOB_INT:
        *(int64_t *)(void *)at = 0;
        break;
    case GP_GOB_UINT:
        *(uint64_t *)(void *)at = 0;
        break;
    default:
        *(gp_gob_text *)(void *)at = (gp_gob_text){NULL, 0};
        break;
    }
}

static bool
get_member(const gp_gob_member *member, void *record, gp__gob_cursor *cursor)
{
    char *at = (char *)record + member->offset;
    const unsigned char *bytes;
    uint64_t number;
    size_t len;

    if (member->kind == GP_GOB_STRING) {
        if (!gp__gob_get_bytes(cursor, &bytes, &len)) {
            return false;
        }
        *(gp_gob_text *)(void *)at = (gp_gob_text){(const char *)bytes, len};
        return true;
    }
    if (!gp__gob_get_uint(cursor, &number)) {
        return false;
    }
    switch (member->kind) {
    case GP_GOB_BOOL:
        *(bool *)at = number != 0;
        break;
    case GP_GOB_INT:
        *(int64_t *)(void *)at = gp__gob_int_of(number);
        break;
    default:
        *(uint64_t *)(void *)at = number;
        break;
    }
    return true;
}

static int
find_for_skim(void *ctx, int64_t id, const gp_gob_wire_type **out, gp_error *err)
{
    return gp__gob_decoder_find_type(ctx, id, out, err);
}

static const gp__gob_skim_ops skim_ops = {.find = find_for_skim, .define = NULL};

static int
skip_field(gp_gob_decoder *decoder, const gp_gob_wire_type *wire, gp__gob_cursor *cursor,
           gp_error *err)
{
    gp__gob_skim skim;
    int rc;

    gp__gob_skim_init(&skim, &skim_ops, decoder, decoder->depth, decoder->name);
    rc = gp__gob_skim_value(&skim, wire, false, cursor, err);
    gp__gob_skim_release(&skim);
    return rc;
}

static int
get_members(gp_gob_decoder *decoder, const gp__gob_plan *plan, void *record, gp__gob_cursor *cursor,
            gp_error *err)
{
    const gp_gob_member *members = plan->type->members;
    size_t at = 0;
    uint64_t delta;

    if (plan->kind != GP_GOB_STRUCT) {
        return gp__gob_get_uint(cursor, &delta) && delta == 0 &&
                       get_member(&members[0], record, cursor)
                   ? 0
                   : gp__gob_refuse_bytes(err, plan->wire);
    }
    while (gp__gob_get_uint(cursor, &delta) && delta <= plan->wire->field_count - at) {
        const gp__gob_step *step;
        int rc;

        if (delta == 0) {
            return 0;
        }
        at += (size_t)delta;
        step = &plan->steps[at - 1];
        if (step->plan == NULL) {
            rc = skip_field(decoder, plan->wire->fields[at - 1].type, cursor, err);
            if (rc < 0) {
                return rc;
            }
        } else if (!get_member(&members[step->slot], record, cursor)) {
            break;
        }
    }
    return gp__gob_refuse_bytes(err, plan->wire);
}

int
gp_gob_record_decode(gp_gob_decoder *decoder, const gp_gob_message *message,
                     const gp_gob_type *type, void *record, gp_error *err)
{
    size_t count = type->kind == GP_GOB_STRUCT ? type->field_count : 1;
    gp__gob_cursor cursor = {message->body, message->body + message->len};
    const gp__gob_plan *plan;
    int rc = gp__gob_decoder_find_plan(decoder, message->type, type, &plan, err);

    if (rc < 0) {
        return rc;
    }
    if (plan->faulty) {
        char spelled[GP_GOB_SPELLED];
        gp__buf path = GP__BUF_INIT;

        gp__gob_path_field(&path, gp_gob_type_spell(type, spelled));
        return gp__gob_plan_refuse(plan, &path, err);
    }
    if (plan->nothing_common) {
        return gp__gob_plan_refuse_strangers(plan, &(gp__buf)GP__BUF_INIT, err);
    }
    for (size_t i = 0; i < count; i++) {
        set_zero(&type->members[i], record);
    }
    return get_members(decoder, plan, record, &cursor, err);
}
