/*
 * Layer: rpc. Channel arguments: ours and the user's, and copies that outlive their caller.
 */
#ifndef GP_RPC_ARGS_H
#define GP_RPC_ARGS_H

#include <grpc/grpc.h>

#include "gp/channel.h"

/* The largest message that gRPC receives unless it is told otherwise, in bytes. */
enum { GP__MESSAGE_LENGTH = 4 << 20 };

/* The arguments of |args|, which may be NULL: none. Borrowed. */
const gp_channel_arg *gp__channel_args_items(const gp_channel_args *args, size_t *count);

/*
 * The integer that |key| has among |args|, of which the last counts; |otherwise| if there is none.
 */
int gp__arg_integer(const gp_channel_arg *args, size_t count, const char *key, int otherwise);

/* The same for a string; NULL if there is none. */
const char *gp__arg_string(const gp_channel_arg *args, size_t count, const char *key);

/*
 * The memory quota of connections that are given no other: NULL unless the process's address space
 * is limited (RLIMIT_AS), since gRPC ends the process where it cannot allocate. Borrowed, for good.
 */
gp_arg_object *gp__process_quota(void);

/*
 * How large a message may be once it is unpacked, for gp__unpack(): as |args| say, or |otherwise|,
 * and not more than the memory quota has. 0 if the user has said whether gRPC is to unpack.
 */
size_t gp__unpack_limit(const gp_channel_arg *args, size_t count, int otherwise);

/*
 * Both lists for gRPC, each key once: what comes last counts, and |more| before |own|. The strings
 * and objects stay borrowed. Returns: 0 or GP_ENOMEM. Release |out->args| with gp__free().
 */
int gp__args_merge(grpc_channel_args *out, const gp_channel_arg *own, size_t own_count,
                   const gp_channel_arg *more, size_t more_count);

#endif
