/*
 * Layer: public. Status codes and the error value that carries a message across threads.
 *
 * Zero or a count is success; a negative number is one of the GP_E* codes. Errors occur on gRPC's
 * and the reactor's threads and are raised on Python's, so the message is in a value that the
 * caller owns, never in thread-local state.
 */
#ifndef GP_ERROR_H
#define GP_ERROR_H

#include <stddef.h>

#define GP_STATUS_MAP(X)                                                  \
    X(GP_ENOMEM, -1, "out of memory")                                     \
    X(GP_ETIMEOUT, -2, "timed out")                                       \
    X(GP_EVERSION, -3, "incompatible API version")                        \
    X(GP_EUSER, -4, "a callback raised")                                  \
    X(GP_EINVAL, -5, "invalid argument")                                  \
    X(GP_EOS, -6, "system call failed")                                   \
    X(GP_ESTART, -7, "the plugin could not be started")                   \
    X(GP_EEXITED, -8, "the plugin exited before it could be reached")     \
    X(GP_ESTARTTIMEOUT, -9, "the plugin did not answer within the limit") \
    X(GP_EHANDSHAKE, -10, "unrecognised handshake")                       \
    X(GP_ECLOSED, -11, "already closed")                                  \
    X(GP_EFORKED, -12, "used in a forked child")                          \
    X(GP_EREATTACH, -13, "the running plugin could not be reached")       \
    X(GP_ERPC, -14, "the call failed")                                    \
    X(GP_EPROTOCOL, -15, "the other side broke the protocol")             \
    X(GP_ETLS, -16, "no secure connection")                               \
    X(GP_EBROKER, -17, "no brokered connection")                          \
    X(GP_ECHECKSUM, -18, "not the expected executable")                   \
    X(GP_EGOB, -19, "no valid gob")                                       \
    X(GP_ELIBRARY, -20, "a shared library is missing")                    \
    X(GP_ESERVER, -21, "the other side has answered with an error")

enum {
#define GP__STATUS_ENUM(name, value, text) name = (value),
    GP_STATUS_MAP(GP__STATUS_ENUM)
#undef GP__STATUS_ENUM
};

typedef struct gp_error {
    int code;      /* one of GP_E*, 0 while nothing has failed */
    char *message; /* owned; NULL means the code's own text */
    char *detail;  /* owned; the evidence: the handshake line, the tail of stderr, what is wrong
                      with TLS as one of gp/tls.h's words, both checksums, the text of
                      GP_ESERVER, or the path of GP_EGOB. May be NULL */
    size_t detail_len;
    long number; /* GP_EEXITED: exit status, -N for signal N. GP_EVERSION: the plugin's version.
                    GP_EOS, GP_ESTART: errno, or 0. GP_ERPC: gRPC's status code. GP_EGOB:
                    GP_GOB_CORRUPT, or 0 */
} gp_error;

#define GP_ERROR_INIT {0, NULL, NULL, 0, 0}

/* The fixed English text of a code. Never NULL. */
const char *gp_strerror(int code);

/*
 * Record a failure in |err| (which may be NULL), replacing what it held.
 *
 * Returns: |code|, so that callers can write `return gp_error_set(...)`.
 */
int gp_error_set(gp_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As gp_error_set with GP_EOS; appends the text of |errnum|. */
int gp_error_set_errno(gp_error *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Put "|format|: " before the message of |err| (which may be NULL). Its code and evidence stay, and
 * so does the message when memory is short.
 *
 * Returns: the code, so that callers can write `return gp_error_prefix(...)`; 0 without |err|.
 */
int gp_error_prefix(gp_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Attach a copy of the evidence, or none if memory is short. */
void gp_error_set_detail(gp_error *err, const void *bytes, size_t len);

/* The message to show: the recorded one, or the code's own text. Borrowed from |err|. */
const char *gp_error_message(const gp_error *err);

/* Free what |err| owns and reset it to GP_ERROR_INIT. */
void gp_error_release(gp_error *err);

#endif
