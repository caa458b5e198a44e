/*
 * Layer: rpc. Channel arguments: the library's and the user's, and copies that outlive their
 * caller.
 */
#ifndef GP_RPC_ARGS_H
#define GP_RPC_ARGS_H

#include <stdbool.h>

#include "gp/channel.h"
#include "rpc/grpc_symbols.h"

/* The largest message that gRPC receives by default, in bytes. */
enum { GP__MESSAGE_LENGTH = 4 << 20 };

/* The arguments of |args|, which may be NULL: none. Borrowed. */
const gp_channel_arg *gp__channel_args_items(const gp_channel_args *args, size_t *count);

/* The integer of the last argument called |key|; |otherwise| if there is none. */
int gp__arg_integer(const gp_channel_arg *args, size_t count, const char *key, int otherwise);

/* Whether there is an argument called |key|. */
bool gp__arg_is_given(const gp_channel_arg *args, size_t count, const char *key);

/* The string of the last argument called |key|; NULL if there is none. */
const char *gp__arg_string(const gp_channel_arg *args, size_t count, const char *key);

/*
 * The memory quota of connections without one of their own. NULL unless the process's address space
 * is limited (RLIMIT_AS): gRPC ends the process when it cannot allocate. Borrowed: it is never
 * freed.
 */
gp_arg_object *gp__process_quota(void);

/*
 * How large a message may be once gp__unpack() has unpacked it: the limit in |args|, or else
 * |otherwise|, but not more than the memory quota. 0 if |args| themselves say whether gRPC is to
 * unpack messages; then gp__unpack() does not.
 */
size_t gp__unpack_limit(const gp_channel_arg *args, size_t count, int otherwise);

/*
 * Merge two lists of arguments for gRPC, with each key once: |more| wins over |own|, and later
 * arguments over earlier ones. The strings and objects stay borrowed. Release |out->args| with
 * gp__free(). Returns: 0 or GP_ENOMEM.
 */
int gp__args_merge(grpc_channel_args *out, const gp_channel_arg *own, size_t own_count,
                   const gp_channel_arg *more, size_t more_count);

#endif
