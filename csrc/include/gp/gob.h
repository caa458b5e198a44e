/*
 * Layer: public. gob, the encoding of Go's encoding/gob: bytes in, values out, and the reverse.
 * Nothing here reads or writes a file.
 *
 * A stream defines the types of its values before it uses them. An encoder knows which types one
 * direction of a stream has defined, a decoder knows the definitions.
 *
 *     bytes -> gp_gob_decoder_feed() -> gp_gob_decoder_next() -> gp_gob_message
 *           -> gp_gob_decode(message, type, sink) -> value
 *     value -> gp_gob_encode(type, source) -> gp_gob_output
 *           -> gp_gob_encoder_commit() -> gp_gob_output_parts() -> bytes
 *
 * The library never looks into values. They are pointers of the user, which a source takes apart
 * and a sink makes.
 *
 * Errors: GP_ENOMEM, GP_EUSER (a source or a sink has failed and knows why), GP_EINVAL (a type that
 * cannot be), or GP_EGOB. The |number| of a GP_EGOB is 0 if a value and a type disagree: the
 * message then names the path ("Order.Items[3].Price: the stream has a string, the class a float"),
 * which is also its detail, and the stream goes on with its next message. It is GP_GOB_CORRUPT if
 * the bytes are no gob. The message of a GP_EUSER is the path.
 */
#ifndef GP_GOB_H
#define GP_GOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gp/error.h"

enum { GP_GOB_CORRUPT = 1 }; /* gp_error.number of a GP_EGOB: the bytes are no gob */

/* ---- Types ----------------------------------------------------------------------------------- */

typedef enum gp_gob_kind {
    GP_GOB_BOOL,
    GP_GOB_INT,
    GP_GOB_UINT,
    GP_GOB_FLOAT,
    GP_GOB_COMPLEX,
    GP_GOB_BYTES, /* a slice of uint8 */
    GP_GOB_STRING,
    GP_GOB_INTERFACE,
    GP_GOB_ARRAY,
    GP_GOB_SLICE,
    GP_GOB_MAP,
    GP_GOB_STRUCT,
    GP_GOB_OPAQUE, /* bytes that the type itself encodes and decodes */
} gp_gob_kind;

/* Which of Go's interfaces an opaque type implements. They do not mix. */
typedef enum gp_gob_flavour {
    GP_GOB_ENCODER, /* GobEncoder: time.Time, big.Int */
    GP_GOB_BINARY,  /* encoding.BinaryMarshaler: url.URL, netip.Addr */
    GP_GOB_TEXT,    /* encoding.TextMarshaler: read, but no version of Go has written it */
} gp_gob_flavour;

/*
 * A type of the program: what it sends, or wants to have. Immutable once it is complete, so it may
 * be used by any thread.
 *
 * Types refer to each other, also in circles, so they live in groups: all types of a group are
 * freed together, when no reference to any of them is left. A type may refer to types of its own
 * group and to those of others, which its group then keeps; but groups must not refer to each other
 * in circles. Make in one group all types that come into being together.
 */
typedef struct gp_gob_type gp_gob_type;
typedef struct gp_gob_group gp_gob_group;

typedef struct gp_gob_type_spec {
    gp_gob_kind kind;
    int bits; /* INT, UINT: 8, 16, 32 or 64. FLOAT, COMPLEX (of each part): 32 or 64. 0: 64 */
    /*
     * Go's name without the package; it is sent for structs and opaque types, and is what errors
     * say. NULL for types without a name: they are called as Go spells them. Copied.
     */
    const char *name;
    gp_gob_type *element;   /* ARRAY, SLICE, MAP. Not needed for a slice of uint8: that is BYTES */
    gp_gob_type *key;       /* MAP */
    size_t length;          /* ARRAY */
    gp_gob_flavour flavour; /* OPAQUE */
    void *tag;              /* for sources and sinks; borrowed: outlives all use of the type */
} gp_gob_type_spec;

typedef struct gp_gob_field {
    const char *name; /* as Go has it: exported, hence with a capital letter. Copied */
    gp_gob_type *type;
} gp_gob_field;

/* Make a group. The caller gets a reference to it. */
int gp_gob_group_new(gp_gob_group **out, gp_error *err);
void gp_gob_group_unref(gp_gob_group *group);

/*
 * Make a type in |group|. Structs have no fields at first: gp_gob_type_set_fields() completes them,
 * so that they can contain themselves. Elements and keys may be structs that are not complete.
 *
 * Returns: 0, GP_ENOMEM, or GP_EINVAL if |spec| makes no sense.
 * Lifetime: |*out| is borrowed from the group; gp_gob_type_ref() makes it live longer.
 */
int gp_gob_type_new(gp_gob_type **out, gp_gob_group *group, const gp_gob_type_spec *spec,
                    gp_error *err);

/*
 * Give a struct its fields, once, before its first use. A field with the type of an interface, a
 * pointer's target or a nested struct is nothing special. Names must differ.
 */
int gp_gob_type_set_fields(gp_gob_type *type, const gp_gob_field *fields, size_t count,
                           gp_error *err);

/* References to a type keep its whole group. Any thread. */
gp_gob_type *gp_gob_type_ref(const gp_gob_type *type);
void gp_gob_type_unref(const gp_gob_type *type); /* NULL: nothing */

gp_gob_kind gp_gob_type_kind(const gp_gob_type *type);
int gp_gob_type_bits(const gp_gob_type *type);
const char *gp_gob_type_name(const gp_gob_type *type); /* NULL: it has none */
const gp_gob_type *gp_gob_type_element(const gp_gob_type *type);
const gp_gob_type *gp_gob_type_key(const gp_gob_type *type);
size_t gp_gob_type_length(const gp_gob_type *type);
gp_gob_flavour gp_gob_type_flavour(const gp_gob_type *type);
void *gp_gob_type_tag(const gp_gob_type *type);
size_t gp_gob_type_fields(const gp_gob_type *type);
const char *gp_gob_type_field_name(const gp_gob_type *type, size_t index);
const gp_gob_type *gp_gob_type_field(const gp_gob_type *type, size_t index);

/*
 * A type of a stream, as it was defined there. Borrowed from the decoder, which keeps it until it
 * is freed. Immutable, any thread. Only structs have fields; what a definition does not say is
 * empty.
 */
typedef struct gp_gob_wire_type gp_gob_wire_type;

gp_gob_kind gp_gob_wire_type_kind(const gp_gob_wire_type *type);
gp_gob_flavour gp_gob_wire_type_flavour(const gp_gob_wire_type *type);
const char *gp_gob_wire_type_name(const gp_gob_wire_type *type); /* may be ""; any bytes but 0 */
const gp_gob_wire_type *gp_gob_wire_type_element(const gp_gob_wire_type *type);
const gp_gob_wire_type *gp_gob_wire_type_key(const gp_gob_wire_type *type);
size_t gp_gob_wire_type_length(const gp_gob_wire_type *type);
size_t gp_gob_wire_type_fields(const gp_gob_wire_type *type);
const char *gp_gob_wire_type_field_name(const gp_gob_wire_type *type, size_t index);
const gp_gob_wire_type *gp_gob_wire_type_field(const gp_gob_wire_type *type, size_t index);

/*
 * What the user of an untyped decoder knows of a wire type, NULL at first.
 * gp_gob_wire_type_set_tag() takes |tag| over unless the type has one already; |release| is called
 * with it when the decoder is freed. Returns the tag that the type has then: if it is not |tag|,
 * the caller keeps that; NULL when memory is short.
 */
void *gp_gob_wire_type_tag(const gp_gob_wire_type *type);
void *gp_gob_wire_type_set_tag(const gp_gob_wire_type *type, void *tag, void (*release)(void *tag));

/*
 * Describe a type as Go spells it ("[]string", "map[string]int", "Order"), shortened if it is long.
 * Returns |out|.
 */
enum { GP_GOB_SPELLED = 128 };
const char *gp_gob_type_spell(const gp_gob_type *type, char out[GP_GOB_SPELLED]);
const char *gp_gob_wire_type_spell(const gp_gob_wire_type *type, char out[GP_GOB_SPELLED]);

/* ---- Encoding -------------------------------------------------------------------------------- */

/* The elements of a sequence; of a map its keys and values in turn. */
typedef struct gp_gob_items {
    void *const *items; /* borrowed until |close_items| */
    size_t count;       /* elements, or pairs of a map */
    void *holder;       /* the source's own */
} gp_gob_items;

/* What an interface value holds. */
typedef struct gp_gob_dynamic {
    const char *name; /* under which the type is registered; NULL: nil */
    size_t len;
    const gp_gob_type *type; /* borrowed until |close_interface| */
    void *value;
    void *holder; /* the source's own */
} gp_gob_dynamic;

/*
 * Takes values apart. |value| is never NULL: NULL stands for a nil pointer, slice, map or interface
 * and is dealt with by the encoder: such a field is left out, and a nil element is an error where
 * Go has one. All functions return 0, GP_EUSER, or another code with nothing recorded; what they
 * hand out stays valid until their next call with the same |ctx|, unless there is a function to
 * close it, which is called if and only if the opening function has returned 0.
 *
 * Ranges are checked by the encoder. What cannot be an int64_t etc. at all, the source refuses.
 */
typedef struct gp_gob_source {
    int (*get_bool)(void *ctx, const gp_gob_type *type, void *value, bool *out);
    int (*get_int)(void *ctx, const gp_gob_type *type, void *value, int64_t *out);
    int (*get_uint)(void *ctx, const gp_gob_type *type, void *value, uint64_t *out);
    int (*get_float)(void *ctx, const gp_gob_type *type, void *value, double *out);
    int (*get_complex)(void *ctx, const gp_gob_type *type, void *value, double out[2]);
    /* BYTES and STRING. */
    int (*get_bytes)(void *ctx, const gp_gob_type *type, void *value, const void **bytes,
                     size_t *len);
    /*
     * The encoded form of an opaque value. Returns 1 instead of 0 if the value is Go's zero value:
     * a field is then left out, as Go does.
     */
    int (*get_opaque)(void *ctx, const gp_gob_type *type, void *value, const void **bytes,
                      size_t *len);
    /* ARRAY, SLICE and MAP. */
    int (*open_items)(void *ctx, const gp_gob_type *type, void *value, gp_gob_items *out);
    void (*close_items)(void *ctx, const gp_gob_type *type, gp_gob_items *items);
    /* STRUCT: fill |fields|, as many as the type has; NULL for nil. */
    int (*open_struct)(void *ctx, const gp_gob_type *type, void *value, void **fields);
    void (*close_struct)(void *ctx, const gp_gob_type *type, void **fields);
    int (*open_interface)(void *ctx, const gp_gob_type *type, void *value, gp_gob_dynamic *out);
    void (*close_interface)(void *ctx, const gp_gob_type *type, gp_gob_dynamic *dynamic);
} gp_gob_source;

/* One encoded value. Not shared between threads, but may be handed from one to another. */
typedef struct gp_gob_output gp_gob_output;

int gp_gob_output_new(gp_gob_output **out, gp_error *err);
void gp_gob_output_free(gp_gob_output *output);

/*
 * Encode |value| into |out|, replacing what that held. The result fits any stream: ids of types are
 * given per process, and the definitions are added by gp_gob_encoder_commit(). So this needs no
 * encoder and no lock, and |source| may run any code.
 *
 * Returns: 0, or an error with the path of the value; |out| is then empty.
 */
int gp_gob_encode(gp_gob_output *out, const gp_gob_type *type, const gp_gob_source *source,
                  void *ctx, void *value, gp_error *err);

/* What one direction of a stream has defined. Not thread-safe: guarded by its user's lock. */
typedef struct gp_gob_encoder gp_gob_encoder;

int gp_gob_encoder_new(gp_gob_encoder **out, gp_error *err);
void gp_gob_encoder_free(gp_gob_encoder *encoder);

/*
 * Add to |output| the definitions of its types that the stream does not have yet, and take them as
 * sent: the caller has to send the bytes, before those of any later commit. So call it and queue
 * the bytes under one lock. May be repeated for other streams.
 *
 * Returns: 0, or GP_ENOMEM, which changes nothing.
 */
int gp_gob_encoder_commit(gp_gob_encoder *encoder, gp_gob_output *output, gp_error *err);

/* The bytes to send after a commit: first the definitions, if any, then the value's message. */
typedef struct gp_gob_part {
    const unsigned char *bytes; /* borrowed from the output until that is changed or freed */
    size_t len;
} gp_gob_part;

void gp_gob_output_parts(const gp_gob_output *output, gp_gob_part parts[2]);

/* ---- Decoding -------------------------------------------------------------------------------- */

/* What a decoder accepts. A field of 0 stands for the default. */
typedef struct gp_gob_limits {
    size_t message;     /* bytes of a message; 1 GiB. Memory grows only as they come */
    size_t depth;       /* values within values; 10,000 */
    size_t types;       /* definitions in the stream; 4,096 */
    size_t definitions; /* bytes of all definitions together; 1 MiB */
    size_t fields;      /* of a struct; 4,096 */
    size_t name;        /* bytes of the name of a type, of a field, or of what an interface holds;
                           1,024 as in Go */
    size_t slots;       /* fields of all structs of a message together, also of those that are not
                           sent because they are zero; 64 Mi */
} gp_gob_limits;

/*
 * The decoder of one direction of a stream. Shared: ref. Feed it and take messages out on one
 * thread at a time; messages may be decoded by other threads meanwhile.
 */
typedef struct gp_gob_decoder gp_gob_decoder;

/* |limits|: NULL for the defaults; copied. */
int gp_gob_decoder_new(gp_gob_decoder **out, const gp_gob_limits *limits, gp_error *err);
gp_gob_decoder *gp_gob_decoder_ref(gp_gob_decoder *decoder);
void gp_gob_decoder_unref(gp_gob_decoder *decoder);

/* Add bytes of the stream, cut anywhere. Returns 0 or GP_ENOMEM. */
int gp_gob_decoder_feed(gp_gob_decoder *decoder, const void *bytes, size_t len, gp_error *err);

/*
 * An encoded value. Its body has no definitions left in it, and all types it uses are known to the
 * decoder. Owned by the caller until gp_gob_message_release().
 */
typedef struct gp_gob_message {
    const gp_gob_wire_type *type; /* borrowed from the decoder */
    const unsigned char *body;    /* borrowed from |memory| */
    size_t len;
    void *memory; /* owned */
} gp_gob_message;

#define GP_GOB_MESSAGE_INIT {NULL, NULL, 0, NULL}

/*
 * Take the next value out of the bytes that have been fed, and the definitions before and in it.
 *
 * Returns: 1 with |out|; 0 if more bytes are needed; GP_ENOMEM or GP_EGOB, which are final: the
 * same error comes again.
 */
int gp_gob_decoder_next(gp_gob_decoder *decoder, gp_gob_message *out, gp_error *err);
void gp_gob_message_release(gp_gob_message *message);

/*
 * Whether the stream may end here: no part of a message, and no definition without the value that
 * has to follow, has been fed since the last message was taken out.
 */
bool gp_gob_decoder_at_end(const gp_gob_decoder *decoder);

/*
 * Makes values. |type| is the type that the program wants; NULL in a value that is decoded by the
 * definitions of the stream alone ("untyped"). |wire| is how the stream defines it. All functions
 * return 0 and the new value, which is not NULL, GP_EUSER, or another code with nothing recorded.
 *
 * Values that are passed to a function are the sink's if it returns 0, and stay the decoder's if it
 * fails. The decoder hands what is left to |discard| after a failure.
 */
typedef struct gp_gob_sink {
    int (*make_bool)(void *ctx, const gp_gob_type *type, bool value, void **out);
    int (*make_int)(void *ctx, const gp_gob_type *type, int64_t value, void **out);
    int (*make_uint)(void *ctx, const gp_gob_type *type, uint64_t value, void **out);
    int (*make_float)(void *ctx, const gp_gob_type *type, double value, void **out);
    int (*make_complex)(void *ctx, const gp_gob_type *type, const double value[2], void **out);
    int (*make_bytes)(void *ctx, const gp_gob_type *type, const void *bytes, size_t len,
                      void **out);
    /* |bytes| may be anything: Go does not ask for UTF-8. */
    int (*make_string)(void *ctx, const gp_gob_type *type, const void *bytes, size_t len,
                       void **out);
    int (*make_opaque)(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire,
                       const void *bytes, size_t len, void **out);
    /* ARRAY and SLICE. */
    int (*make_items)(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire,
                      void *const *items, size_t count, void **out);
    /* |items| are keys and values in turn, |count| pairs; a later key replaces an equal one. */
    int (*make_map)(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire,
                    void *const *items, size_t count, void **out);
    /*
     * |fields| has an entry for each field of |type|, or of |wire| if untyped; NULL for a field
     * that the stream does not have or that is zero.
     */
    int (*make_struct)(void *ctx, const gp_gob_type *type, const gp_gob_wire_type *wire,
                       void *const *fields, void **out);
    /* An interface without a value. */
    int (*make_nil)(void *ctx, const gp_gob_type *type, void **out);
    /*
     * The type that is registered for |name|: |*out| may stay NULL, for an untyped value. |wire| is
     * what the stream has. |*out| is borrowed until the value is made.
     */
    int (*find_type)(void *ctx, const gp_gob_type *type, const void *name, size_t len,
                     const gp_gob_wire_type *wire, const gp_gob_type **out);
    /* An interface holding |value|, which is of type |held| (NULL: untyped). */
    int (*make_interface)(void *ctx, const gp_gob_type *type, const void *name, size_t len,
                          const gp_gob_type *held, const gp_gob_wire_type *wire, void *value,
                          void **out);
    void (*discard)(void *ctx, void *value);
} gp_gob_sink;

/*
 * Decode a message, into |type| or, if that is NULL, untyped. Any thread. What makes the stream's
 * type and the program's compatible is compiled when they first meet, and kept in the decoder.
 *
 * Returns: 0 with the value; an error with the path of the value.
 */
int gp_gob_decode(gp_gob_decoder *decoder, const gp_gob_message *message, const gp_gob_type *type,
                  const gp_gob_sink *sink, void *ctx, void **value, gp_error *err);

/* ---- Structs of C ---------------------------------------------------------------------------- */

/*
 * For small structs of the library itself, without a source or a sink: types whose fields are bool,
 * uint64_t, int64_t or gp_gob_text members of a C struct.
 */
typedef struct gp_gob_text {
    const char *data; /* borrowed; not terminated */
    size_t len;
} gp_gob_text;

typedef struct gp_gob_member {
    const char *name;
    gp_gob_kind kind; /* BOOL (bool), INT (int64_t), UINT (uint64_t) or STRING (gp_gob_text) */
    size_t offset;
} gp_gob_member;

/*
 * Make the type of a C struct: |members| is borrowed for as long as the type lives. The caller owns
 * a reference. A single value that is no struct, such as a bool, is a record with one member
 * without a name; an empty struct has no members.
 */
int gp_gob_record_new(gp_gob_type **out, const char *name, const gp_gob_member *members,
                      size_t count, gp_error *err);

/* Encode the C struct at |record| into |out|, as gp_gob_encode(). */
int gp_gob_record_encode(gp_gob_output *out, const gp_gob_type *type, const void *record,
                         gp_error *err);

/*
 * Decode a message into the C struct at |record|: members that are not sent are set to zero, fields
 * of the stream that are no members are skipped. Texts are borrowed from |message|.
 */
int gp_gob_record_decode(gp_gob_decoder *decoder, const gp_gob_message *message,
                         const gp_gob_type *type, void *record, gp_error *err);

#endif
