#include "gob_stream.h"

#include <string.h>

#include "gob/wire.h"
#include "support.h"

void
stream_release(stream *it)
{
    gp__buf_release(&it->bytes);
    gp__buf_release(&it->message);
}

static void
append(gp__buf *out, const void *bytes, size_t len)
{
    assert_int_equal(gp__buf_append(out, bytes, len), 0);
}

void
put_uint(stream *it, uint64_t value)
{
    unsigned char bytes[GP__GOB_UINT_MOST];

    append(&it->message, bytes, gp__gob_put_uint(bytes, value));
}

void
put_int(stream *it, int64_t value)
{
    put_uint(it, gp__gob_uint_of(value));
}

void
put_text(stream *it, const char *text)
{
    put_uint(it, strlen(text));
    append(&it->message, text, strlen(text));
}

void
put_byte(stream *it, unsigned char byte)
{
    append(&it->message, &byte, 1);
}

void
end_message(stream *it)
{
    unsigned char length[GP__GOB_UINT_MOST];

    append(&it->bytes, length, gp__gob_put_uint(length, it->message.len));
    append(&it->bytes, it->message.data, it->message.len);
    it->message.len = 0;
}

/* CommonType{Name, Id} or fieldType{Name, Id}. */
static void
put_named(stream *it, const char *name, int id)
{
    if (name[0] != '\0') {
        put_uint(it, 1);
        put_text(it, name);
    }
    put_uint(it, name[0] != '\0' ? 1 : 2);
    put_int(it, id);
    put_uint(it, 0);
}

static void
begin_definition(stream *it, int id, unsigned kind, const char *name)
{
    put_int(it, -id);
    put_uint(it, kind);
    put_uint(it, 1);
    put_named(it, name, id);
}

static void
end_definition(stream *it)
{
    put_uint(it, 0);
    put_uint(it, 0);
    end_message(it);
}

void
define_struct(stream *it, int id, const char *name, ...)
{
    const char *names[64];
    int ids[64];
    size_t count = 0;
    va_list args;

    va_start(args, name);
    while ((names[count] = va_arg(args, const char *)) != NULL) {
        ids[count++] = va_arg(args, int);
        assert_true(count < sizeof(ids) / sizeof(ids[0]));
    }
    va_end(args);
    begin_definition(it, id, 3, name);
    if (count > 0) {
        put_uint(it, 1);
        put_uint(it, count);
    }
    for (size_t i = 0; i < count; i++) {
        put_named(it, names[i], ids[i]);
    }
    end_definition(it);
}

void
define_slice(stream *it, int id, int element)
{
    begin_definition(it, id, 2, "");
    put_uint(it, 1);
    put_int(it, element);
    end_definition(it);
}

void
define_array(stream *it, int id, int element, int length)
{
    begin_definition(it, id, 1, "");
    put_uint(it, 1);
    put_int(it, element);
    if (length != 0) {
        put_uint(it, 1);
        put_int(it, length);
    }
    end_definition(it);
}

void
define_map(stream *it, int id, int key, int element)
{
    begin_definition(it, id, 4, "");
    put_uint(it, 1);
    put_int(it, key);
    put_uint(it, 1);
    put_int(it, element);
    end_definition(it);
}

void
define_opaque(stream *it, int id, const char *name, gp_gob_flavour flavour)
{
    begin_definition(it, id, 5 + (unsigned)flavour, name);
    end_definition(it);
}
