/*
 * Layer: rpc. gRPC's types and functions. Files include this in place of gRPC's own headers.
 *
 * Nothing here is linked with gRPC, which takes 6 ms and 6 MiB to load together with the libraries
 * that it needs, and which a process that speaks only net/rpc does not need at all.
 * gp__grpc_start() loads it. Each function of gRPC's that the library uses is in grpc_symbols.txt
 * (os/library.h says how that works), and cannot be called before; objects of gRPC's do not exist
 * before either. The extension does not load if it calls a function that is not listed.
 */
#ifndef GP_RPC_GRPC_SYMBOLS_H
#define GP_RPC_GRPC_SYMBOLS_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/string_util.h>
#include <grpc/support/time.h>
#if defined(__has_include)
#if __has_include(<grpc/credentials.h>) /* where newer versions have moved the constructors */
#include <grpc/credentials.h>
#endif
#endif

#include "gp/error.h"

#include "gen/rpc/grpc_symbols.h"

/*
 * Load gRPC's library, unless that has been done. Threads: any.
 *
 * Returns: 0, GP_ELIBRARY, or GP_EOS when descriptors are short.
 */
int gp__grpc_load(gp_error *err);

/*
 * Load OpenSSL's library for gRPC, which is loaded and does not need it before it is given
 * credentials with certificates or keys. Threads: any. Returns: as gp__grpc_load().
 */
int gp__grpc_load_openssl(gp_error *err);

/* The address of a function that not all versions of gRPC have; NULL if this one has it not. */
void *gp__grpc_find(const char *name);

#endif
