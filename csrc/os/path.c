#include "os/path.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "gp/error.h"

enum { LONGEST_WORKING_DIRECTORY = 4096 };

/* Append the components of |path|. Returns 0 or GP_ENOMEM. */
static int
append_components(gp__buf *out, const char *path, size_t len)
{
    int rc = 0;

    for (size_t at = 0; at < len && rc == 0;) {
        const char *slash = memchr(path + at, '/', len - at);
        size_t size = slash != NULL ? (size_t)(slash - path) - at : len - at;
        bool named = size > 0 && !(size == 1 && path[at] == '.');

        if (named && (rc = gp__buf_append(out, "/", 1)) == 0) {
            rc = gp__buf_append(out, path + at, size);
        }
        at += size + 1;
    }
    return rc;
}

char *
gp__path_absolute(const char *path, size_t len, const char *directory)
{
    char working[LONGEST_WORKING_DIRECTORY];
    gp__buf out = GP__BUF_INIT;
    char *text = NULL;
    int rc = 0;

    if (len == 0 || path[0] != '/') {
        if (directory == NULL || directory[0] != '/') {
            rc = getcwd(working, sizeof(working)) != NULL ? 0 : GP_EOS;
            rc = rc == 0 ? append_components(&out, working, strlen(working)) : rc;
        }
        if (rc == 0 && directory != NULL) {
            rc = append_components(&out, directory, strlen(directory));
        }
    }
    rc = rc == 0 ? append_components(&out, path, len) : rc;
    if (rc == 0 && out.len == 0) {
        rc = gp__buf_append(&out, "/", 1);
    }
    if (rc == 0) {
        text = gp__memdup(out.data, out.len);
    }
    gp__buf_release(&out);
    return text;
}

const char *
gp__path_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

char *
gp__path_parent(const char *path)
{
    size_t len = (size_t)(gp__path_name(path) - path);

    return len > 1 ? gp__memdup(path, len - 1) : gp__strdup("/");
}

/*
 * Whether |c| stays as it is in a URI for gRPC. (gRPC splits an address at a comma, even an escaped
 * one.)
 */
static bool
is_unescaped(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("/-._~!$&'()*+;=:@", c) != NULL);
}

char *
gp__path_escape(const char *path)
{
    gp__buf out = GP__BUF_INIT;
    char *text;
    int rc = 0;

    for (; *path != '\0' && rc == 0; path++) {
        rc = is_unescaped(*path) ? gp__buf_append(&out, path, 1)
                                 : gp__buf_printf(&out, "%%%02X", (unsigned char)*path);
    }
    text = rc == 0 ? gp__memdup(out.data, out.len) : NULL;
    gp__buf_release(&out);
    return text;
}

/* The value of a hexadecimal digit, or -1. */
static int
hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

char *
gp__path_unescape(const char *text)
{
    char *path = gp__strdup(text);
    char *to = path;

    if (path == NULL) {
        return NULL;
    }
    for (const char *from = text; *from != '\0'; from++) {
        int high = *from == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;

        *to++ = low >= 0 ? (char)(high << 4 | low) : *from;
        from += low >= 0 ? 2 : 0;
    }
    *to = '\0';
    return path;
}
