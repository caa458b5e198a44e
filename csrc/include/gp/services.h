/*
 * Layer: public. The services that every plugin offers besides its own (protocol: "gRPC services on
 * the plugin's main listener"), for a server that has not been started.
 */
#ifndef GP_SERVICES_H
#define GP_SERVICES_H

#include "gp/error.h"
#include "gp/message.h"
#include "gp/server.h"
#include "gp/stdio.h"

/* The health service: the empty name and |service| (copied) are SERVING, all others NOT_FOUND. */
int gp_server_add_health(gp_server *server, const char *service, gp_error *err);

/* The controller: Shutdown stops the server, with |grace_ms| for running calls. */
int gp_server_add_controller(gp_server *server, int64_t grace_ms, gp_error *err);

/*
 * The stream of this process's output. When the server stops and no handler runs any more, |stdio|
 * is finished, which ends the stream. The server takes a reference.
 */
int gp_server_add_stdio(gp_server *server, gp_stdio *stdio, gp_error *err);

/* A consumer of |stdio|, for servers that are not ours. */
typedef struct gp_stdio_reader gp_stdio_reader;

int gp_stdio_reader_new(gp_stdio_reader **out, gp_stdio *stdio, gp_error *err);

/*
 * Wait for the next message of the stream. One thread at a time.
 * Returns: 1 with |out| set until the next call; 0 at the end or once it was closed; GP_EUSER.
 */
int gp_stdio_reader_next(gp_stdio_reader *reader, gp_bytes *out, const gp_interrupt *interrupt);

/* Have gp_stdio_reader_next() return 0, from now on and if a thread waits in it. Idempotent. */
void gp_stdio_reader_close(gp_stdio_reader *reader);

/* No thread may be waiting in gp_stdio_reader_next(). */
void gp_stdio_reader_free(gp_stdio_reader *reader);

/* What a client of server reflection asks about. */
typedef enum gp_reflection_kind {
    GP_REFLECT_FILE,       /* a file name      -> serialized FileDescriptorProtos */
    GP_REFLECT_SYMBOL,     /* a full name      -> the same */
    GP_REFLECT_EXTENSION,  /* a type and a number -> the same */
    GP_REFLECT_EXTENSIONS, /* a type           -> numbers */
    GP_REFLECT_SERVICES,   /* nothing          -> names */
    GP_REFLECT_UNKNOWN,    /* a question that this version does not know */
} gp_reflection_kind;

/* A request, which owns its strings. */
typedef struct gp_reflection_query {
    gp_reflection_kind kind;
    const char *name;
    int number;
    void *message; /* owned: the parsed request */
} gp_reflection_query;

/*
 * The elements of an answer: |items| for files and (zero-terminated) names, |numbers| for
 * extensions.
 */
typedef struct gp_reflection_answer {
    const gp_bytes *items;
    const int32_t *numbers;
    size_t count;
    const char *error; /* not NULL: NOT_FOUND with this text instead */
} gp_reflection_answer;

/* Parse one request message (v1 and v1alpha look the same). Returns 0 or GP_EINVAL. */
int gp_reflection_parse(gp_reflection_query *out, gp_bytes request);
void gp_reflection_release(gp_reflection_query *query);

/* Serialize the response to |query|. The caller frees |*out| with gp_reflection_free(). */
int gp_reflection_respond(unsigned char **out, size_t *len, const gp_reflection_query *query,
                          const gp_reflection_answer *answer);
void gp_reflection_free(unsigned char *bytes);

#endif
