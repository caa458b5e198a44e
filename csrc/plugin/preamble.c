#include "plugin/preamble.h"

#include <string.h>

#include "base/alloc.h"
#include "gp/handshake.h"
#include "wire/handshake.h"

/* How many lines are quoted. */
enum { QUOTED_LINES = 10 };

void
gp__preamble_release(gp__preamble *preamble)
{
    gp__buf_release(&preamble->quoted);
}

static int
quote_line(gp__preamble *self, gp__text line)
{
    char quoted[GP__QUOTED];

    if (self->lines >= QUOTED_LINES) {
        return 0;
    }
    line = gp__text_trim(line);
    return gp__buf_printf(&self->quoted, self->lines > 0 ? ", %s" : "%s",
                          gp__quote(quoted, line.data, line.len));
}

/*
 * The offset at which a handshake begins in a line that begins with other text; 0 if there is none.
 */
static size_t
handshake_within(gp__text line)
{
    for (size_t i = 1; i + 1 < line.len; i++) {
        if (line.data[i] == '0' + GP_CORE_PROTOCOL && line.data[i + 1] == '|' &&
            gp__handshake_is_likely(line.data + i, line.len - i)) {
            return i;
        }
    }
    return 0;
}

static int
report_too_many(const gp__preamble *self, gp__text line, gp_error *err)
{
    char *before = gp__preamble_describe(self);
    char quoted[GP__QUOTED];

    line = gp__text_trim(line);
    gp_error_set(err, GP_EHANDSHAKE,
                 "no handshake came after %s; then there was %s, and no more than %zu may be "
                 "skipped (skip_output). Is this program a go-plugin plugin?",
                 before != NULL ? before : "some lines", gp__quote(quoted, line.data, line.len),
                 self->most);
    gp_error_set_detail(err, line.data, line.len);
    gp__free(before);
    return GP_EHANDSHAKE;
}

int
gp__preamble_skip(gp__preamble *self, gp__buf *output, gp_error *err)
{
    for (;;) {
        const char *newline = output->len > 0 ? memchr(output->data, '\n', output->len) : NULL;
        size_t len = newline != NULL ? (size_t)(newline - output->data) + 1 : output->len;
        gp__text line = {output->data, len};
        ptrdiff_t found;

        if (self->discarding) {
            self->discarding = newline == NULL;
            gp__buf_consume(output, len);
        } else if (self->most == 0 ||
                   (newline != NULL && gp__handshake_is_likely(line.data, line.len))) {
            found = gp__handshake_find(output->data, output->len, err);
            return found > 0 ? 1 : (int)found;
        } else if (newline == NULL && len < GP__HANDSHAKE_MAX) {
            return 0;
        } else if (self->lines == self->most) {
            return report_too_many(self, line, err);
        } else {
            size_t within = newline != NULL ? handshake_within(line) : 0;

            line.len = within > 0 ? within : line.len;
            if (quote_line(self, line) < 0) {
                return gp_error_set(err, GP_ENOMEM, "out of memory for the plugin's output");
            }
            self->lines++;
            self->discarding = newline == NULL;
            gp__buf_consume(output, line.len);
        }
        if (output->len == 0) {
            return 0;
        }
    }
}

gp__text
gp__preamble_first_line(const gp__buf *output)
{
    const char *newline = output->len > 0 ? memchr(output->data, '\n', output->len) : NULL;

    return (gp__text){output->data,
                      newline != NULL ? (size_t)(newline - output->data) : output->len};
}

char *
gp__preamble_describe(const gp__preamble *self)
{
    const char *s = self->lines == 1 ? "" : "s";
    int len = (int)self->quoted.len;

    if (self->lines == 0) {
        return NULL;
    }
    if (self->lines > QUOTED_LINES) {
        return gp__format("%zu lines on its stdout: %.*s and %zu more", self->lines, len,
                          self->quoted.data, self->lines - QUOTED_LINES);
    }
    return gp__format("%zu line%s on its stdout: %.*s", self->lines, s, len, self->quoted.data);
}
