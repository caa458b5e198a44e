#include "gob/output.h"

#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "gob/type.h"

/* A longer message does not stay in memory when the next one begins. */
enum { KEPT = 1 << 20 };

int
gp_gob_output_new(gp_gob_output **out, gp_error *err)
{
    *out = gp__calloc(1, sizeof(**out));
    return *out != NULL ? 0 : gp_error_set(err, GP_ENOMEM, "gob output");
}

void
gp_gob_output_free(gp_gob_output *output)
{
    if (output == NULL) {
        return;
    }
    gp__gob_output_clear(output);
    gp__buf_release(&output->message);
    gp__buf_release(&output->definitions);
    gp__free(output->roots);
    gp__free(output);
}

void
gp__gob_output_clear(gp_gob_output *output)
{
    for (size_t i = 0; i < output->root_count; i++) {
        gp_gob_type_unref(output->roots[i]);
    }
    output->root_count = 0;
    if (output->message.cap > KEPT) {
        gp__buf_release(&output->message);
    }
    output->message.len = 0;
    output->start = 0;
    output->definitions.len = 0;
}

int
gp__gob_output_add_root(gp_gob_output *output, const gp_gob_type *type, gp_error *err)
{
    int rc;

    /* The values of a list often have the same type, so the newest is looked at first. */
    for (size_t i = output->root_count; i > 0; i--) {
        if (output->roots[i - 1] == type) {
            return 0;
        }
    }
    rc = gp__gob_type_define(type, err);
    if (rc < 0 || !gp__gob_type_is_defined(type)) {
        return rc;
    }
    if (output->root_count == output->root_cap) {
        size_t cap = output->root_cap > 0 ? output->root_cap * 2 : 4;
        const gp_gob_type **roots = gp__realloc(output->roots, cap * sizeof(*roots));

        if (roots == NULL) {
            return gp_error_set(err, GP_ENOMEM, "gob output");
        }
        output->roots = roots;
        output->root_cap = cap;
    }
    output->roots[output->root_count++] = gp_gob_type_ref(type);
    return 0;
}

int
gp__gob_output_begin(gp_gob_output *output, const gp_gob_type *type, gp_error *err)
{
    int rc;

    gp__gob_output_clear(output);
    rc = gp__gob_output_add_root(output, type, err);
    if (rc < 0) {
        return rc;
    }
    if (gp__gob_output_reserve(output, 3 * GP__GOB_UINT_MOST) < 0) {
        return gp_error_set(err, GP_ENOMEM, "gob output");
    }
    output->message.len = GP__GOB_UINT_MOST;
    gp__gob_output_put(output, gp__gob_uint_of(gp__gob_type_id(type)));
    if (type->kind != GP_GOB_STRUCT) {
        gp__gob_output_put(output, 0);
    }
    return 0;
}

void
gp__gob_output_finish(gp_gob_output *output)
{
    unsigned char length[GP__GOB_UINT_MOST];
    size_t len = gp__gob_put_uint(length, output->message.len - GP__GOB_UINT_MOST);

    output->start = GP__GOB_UINT_MOST - len;
    memcpy(output->message.data + output->start, length, len);
}

void
gp_gob_output_parts(const gp_gob_output *output, gp_gob_part parts[2])
{
    const unsigned char *message = (const unsigned char *)output->message.data;

    parts[0] =
        (gp_gob_part){(const unsigned char *)output->definitions.data, output->definitions.len};
    parts[1] = output->message.len > 0
                   ? (gp_gob_part){message + output->start, output->message.len - output->start}
                   : (gp_gob_part){NULL, 0};
}

/* ---- What a stream has ----------------------------------------------------------------------- */

enum { BITS = sizeof(unsigned long) * CHAR_BIT };

struct gp_gob_encoder {
    unsigned long *sent; /* owned: a bit for each id, from GP__GOB_FIRST_ID on */
    size_t size;         /* elements of |sent| */
};

int
gp_gob_encoder_new(gp_gob_encoder **out, gp_error *err)
{
    *out = gp__calloc(1, sizeof(**out));
    return *out != NULL ? 0 : gp_error_set(err, GP_ENOMEM, "a gob encoder");
}

void
gp_gob_encoder_free(gp_gob_encoder *encoder)
{
    if (encoder != NULL) {
        gp__free(encoder->sent);
        gp__free(encoder);
    }
}

static bool
is_sent(const gp_gob_encoder *encoder, const gp_gob_type *type)
{
    size_t bit = (size_t)(type->id - GP__GOB_FIRST_ID);

    return bit / BITS < encoder->size && encoder->sent[bit / BITS] >> bit % BITS & 1;
}

static void
flip_sent(gp_gob_encoder *encoder, const gp_gob_type *type)
{
    size_t bit = (size_t)(type->id - GP__GOB_FIRST_ID);

    encoder->sent[bit / BITS] ^= 1UL << bit % BITS;
}

static int
mark_sent(gp_gob_encoder *encoder, const gp_gob_type *type)
{
    size_t need = (size_t)(type->id - GP__GOB_FIRST_ID) / BITS + 1;

    if (need > encoder->size) {
        size_t size = need > encoder->size * 2 ? need : encoder->size * 2;
        unsigned long *sent = gp__realloc(encoder->sent, size * sizeof(*sent));

        if (sent == NULL) {
            return GP_ENOMEM;
        }
        memset(sent + encoder->size, 0, (size - encoder->size) * sizeof(*sent));
        encoder->sent = sent;
        encoder->size = size;
    }
    flip_sent(encoder, type);
    return 0;
}

/* Types that a commit has marked as sent. */
typedef struct marked {
    const gp_gob_type **types; /* owned */
    size_t count;
    size_t cap;
} marked;

static int
add_marked(marked *it, const gp_gob_type *type)
{
    if (it->count == it->cap) {
        size_t cap = it->cap > 0 ? it->cap * 2 : 16;
        const gp_gob_type **types = gp__realloc(it->types, cap * sizeof(*types));

        if (types == NULL) {
            return GP_ENOMEM;
        }
        it->types = types;
        it->cap = cap;
    }
    it->types[it->count++] = type;
    return 0;
}

/*
 * Add the definitions of a type and of all that it refers to, in the order in which Go sends them.
 */
static int
add_definitions(gp_gob_encoder *encoder, gp_gob_output *output, const gp_gob_type *type,
                marked *marks)
{
    int rc;

    if (type == NULL || !gp__gob_type_is_defined(type) || is_sent(encoder, type)) {
        return 0;
    }
    if (add_marked(marks, type) < 0) {
        return GP_ENOMEM;
    }
    if (mark_sent(encoder, type) < 0) {
        marks->count--;
        return GP_ENOMEM;
    }
    rc = gp__buf_append(&output->definitions, type->definition->bytes, type->definition->len);
    for (size_t i = 0; i < type->field_count && rc == 0; i++) {
        rc = add_definitions(encoder, output, type->fields[i].type, marks);
    }
    rc = rc == 0 ? add_definitions(encoder, output, type->key, marks) : rc;
    return rc == 0 ? add_definitions(encoder, output, type->element, marks) : rc;
}

int
gp_gob_encoder_commit(gp_gob_encoder *encoder, gp_gob_output *output, gp_error *err)
{
    marked marks = {NULL, 0, 0};
    int rc = 0;

    output->definitions.len = 0;
    for (size_t i = 0; i < output->root_count && rc == 0; i++) {
        rc = add_definitions(encoder, output, output->roots[i], &marks);
    }
    if (rc < 0) {
        for (size_t i = 0; i < marks.count; i++) {
            flip_sent(encoder, marks.types[i]);
        }
        output->definitions.len = 0;
        gp_error_set(err, rc, "gob definitions");
    }
    gp__free(marks.types);
    return rc;
}
