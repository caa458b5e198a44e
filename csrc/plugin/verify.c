#include "plugin/verify.h"

#include <string.h>

#include "base/alloc.h"
#include "os/process/program.h"
#include "tls/checksum.h"

enum { HEX_MAX = 2 * GP__CHECKSUM_MAX + 1 };

/*
 * A file of more bytes is read twice: its checksum has to be right before memory is spent on a
 * copy. Smaller files are copied while they are checked, which takes less time.
 */
static const uint64_t copied_unchecked = 32 << 20;

static const char *
format_hex(char out[HEX_MAX], const unsigned char *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

static int
compare_checksum(const gp_client_options *options, const char *path, const unsigned char *found,
                 gp_error *err)
{
    char expected_hex[HEX_MAX];
    char found_hex[HEX_MAX];
    const size_t len = options->checksum_len; /* options.c has checked it */
    char *detail;

    if (gp__checksum_equal(options->checksum, found, len)) {
        return 0;
    }
    format_hex(expected_hex, options->checksum, len);
    format_hex(found_hex, found, len);
    gp_error_set(err, GP_ECHECKSUM,
                 "%s is not what it should be: expected the %s checksum %s, found %s; nothing was "
                 "started",
                 path, options->checksum_hash, expected_hex, found_hex);
    detail = gp__format("%s %s %s", options->checksum_hash, expected_hex, found_hex);
    if (detail != NULL) {
        gp_error_set_detail(err, detail, strlen(detail));
        gp__free(detail);
    }
    return GP_ECHECKSUM;
}

/* Read the file with |pass|, which may copy it, and compare its checksum. */
static int
check_file(gp__sealed *file,
           int (*pass)(gp__sealed *file, const gp__sealed_reader *reader, gp_error *err),
           const gp_client_options *options, gp__sealed_reader reader, gp_error *err)
{
    unsigned char found[GP__CHECKSUM_MAX];
    gp__checksum *sum;
    int rc = gp__checksum_new(&sum, options->checksum_hash, err);

    if (rc < 0) {
        return rc;
    }
    reader.see = gp__checksum_add;
    reader.ctx = sum;
    rc = pass(file, &reader, err);
    if (rc == 0) {
        rc = gp__checksum_end(sum, found, err);
    }
    if (rc >= 0) {
        rc = compare_checksum(options, file->origin, found, err);
    }
    gp__checksum_free(sum);
    return rc;
}

/* Set the error of a start whose file could not be read to its end, because of |rc|. */
static int
explain_failure(int rc, const gp_client_options *options, const char *path, gp_error *err)
{
    if (rc == GP_ETIMEOUT) {
        return gp_error_set(err, GP_ESTARTTIMEOUT,
                            "timed out: the checksum of %s could not be calculated within %g s; "
                            "nothing was started",
                            path, (double)options->start_timeout_ms / 1000);
    }
    return rc == GP_EUSER ? gp_error_set(err, rc, "the start was interrupted") : rc;
}

int
gp__verify(gp__sealed *out, const gp_client_options *options, const char *const *env,
           int64_t deadline, const gp_interrupt *interrupt, gp_error *err)
{
    const gp__spawn_spec spec = {
        .argv = options->argv, .env = env, .directory = options->directory};
    const gp__sealed_reader reader = {.deadline = deadline, .interrupt = interrupt};
    const uint64_t most = options->checksum_max_size > 0 ? options->checksum_max_size : UINT64_MAX;
    char *path = gp__program_find(&spec);
    int rc;

    if (path == NULL) {
        return gp__program_not_found(&spec, err);
    }
    rc = gp__sealed_open(out, path, most, err);
    if (rc == 0 && out->size > copied_unchecked) {
        rc = check_file(out, gp__sealed_look, options, reader, err);
    }
    if (rc == 0) {
        rc = check_file(out, gp__sealed_copy, options, reader, err);
    }
    if (rc < 0) {
        gp__sealed_release(out);
        rc = explain_failure(rc, options, path, err);
    }
    gp__free(path);
    return rc;
}
