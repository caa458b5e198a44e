/*
 * Streams made by hand, right or wrong: messages of numbers and texts.
 */
#ifndef GP_TESTS_GOB_STREAM_H
#define GP_TESTS_GOB_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "gp/gob.h"

/* The predefined ids. */
enum {
    ID_BOOL = 1,
    ID_INT,
    ID_UINT,
    ID_FLOAT,
    ID_BYTES,
    ID_STRING,
    ID_COMPLEX,
    ID_INTERFACE,
};

typedef struct stream {
    gp__buf bytes;
    gp__buf message; /* the one that is being made */
} stream;

#define STREAM_INIT {GP__BUF_INIT, GP__BUF_INIT}

void stream_release(stream *it);

/* Append to the message. */
void put_uint(stream *it, uint64_t value);
void put_int(stream *it, int64_t value);
void put_text(stream *it, const char *text);
void put_byte(stream *it, unsigned char byte);

/* End the message: put its length before it, and begin another one. */
void end_message(stream *it);

/* Whole definitions. Fields are names and ids in turn, then NULL. */
void define_struct(stream *it, int id, const char *name, ...);
void define_slice(stream *it, int id, int element);
void define_array(stream *it, int id, int element, int length);
void define_map(stream *it, int id, int key, int element);
void define_opaque(stream *it, int id, const char *name, gp_gob_flavour flavour);

#endif
