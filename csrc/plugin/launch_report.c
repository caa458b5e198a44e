#include "plugin/launch_report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "os/fd.h"
#include "os/process/tail.h"
#include "wire/handshake.h"

static void add_to_message(gp_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Append to the message of |err|. When memory is short, the message stays as it is. */
static void
add_to_message(gp_error *err, const char *format, ...)
{
    va_list args;
    char *more;
    char *message = NULL;

    if (err == NULL) {
        return;
    }
    va_start(args, format);
    more = gp__vformat(format, args);
    va_end(args);
    if (more != NULL) {
        message = gp__format("%s%s", gp_error_message(err), more);
        gp__free(more);
    }
    if (message != NULL) {
        gp__free(err->message);
        err->message = message;
    }
}

/* Append a sentence to the message. */
static void
add_sentence(gp_error *err, const char *sentence, size_t len)
{
    const char *message = err != NULL ? gp_error_message(err) : "";
    size_t end = strlen(message);
    bool ended = end > 0 && strchr(".?", message[end - 1]) != NULL;

    add_to_message(err, "%s %.*s", ended ? "" : ".", (int)len, sentence);
}

/* ---- What the plugin has printed ------------------------------------------------------------- */

/* Append the end of stderr to the message, and make it the detail. */
static void
add_stderr(const gp__launch *launch, gp_error *err)
{
    char text[GP__TAIL + 1];
    const char *tail = gp__tail_text(gp__process_tail(launch->process), text);

    if (tail[0] != '\0') {
        add_to_message(err, "; its stderr ends with:\n%s", tail);
    } else {
        add_to_message(err, "; it wrote nothing to stderr");
    }
    gp_error_set_detail(err, tail, strlen(tail));
}

/* Append the skipped lines to the message: they may say why there is no handshake. */
static void
add_skipped(const gp__launch *launch, gp_error *err)
{
    char *lines = gp__preamble_describe(&launch->skipped);

    if (lines != NULL) {
        add_to_message(err, "; it printed %s", lines);
    }
    gp__free(lines);
}

/* ---- What may explain the failure ------------------------------------------------------------ */

/* If a runner has started the program, append why it may not be a plugin. */
static void
add_runners_diagnosis(const gp__launch *launch, gp_error *err)
{
    const gp_runner *runner = gp__process_runner(launch->process);
    char note[1024] = "";

    if (runner == NULL) {
        return;
    }
    runner->diagnose(runner->ctx, note, sizeof(note));
    if (note[0] != '\0') {
        add_sentence(err, note, strlen(note));
    }
}

/* Whether a whole or unfinished line in |output| may be a handshake. */
static bool
has_handshake(gp__text output)
{
    while (output.len > 0) {
        const char *newline = memchr(output.data, '\n', output.len);
        size_t len = newline != NULL ? (size_t)(newline - output.data) : output.len;

        if (gp__handshake_is_likely(output.data, len)) {
            return true;
        }
        len += newline != NULL ? 1 : 0;
        output = (gp__text){output.data + len, output.len - len};
    }
    return false;
}

/* Whether a handshake follows the first line in the output so far. */
static bool
handshake_follows(const gp__launch *launch)
{
    gp__text first = gp__preamble_first_line(&launch->line);
    size_t behind = first.len < launch->line.len ? first.len + 1 : first.len;
    gp__buf output = GP__BUF_INIT;
    char chunk[4096];
    ssize_t got = gp__fd_read(launch->out_fd, chunk, sizeof(chunk));
    bool follows;

    follows = gp__buf_append(&output, launch->line.data + behind, launch->line.len - behind) == 0 &&
              gp__buf_append(&output, chunk, got > 0 ? (size_t)got : 0) == 0 &&
              has_handshake((gp__text){output.data, output.len});
    gp__buf_release(&output);
    return follows;
}

/* The first line is not a handshake: mention the option that skips it. */
static void
add_hint(const gp__launch *launch, gp_error *err)
{
    static const char follows[] = "A handshake follows it: skip_output=True has the host skip what "
                                  "comes before.";
    static const char may_follow[] =
        "If a handshake follows it, skip_output=True has the host skip "
        "what comes before.";
    gp__text first = gp__preamble_first_line(&launch->line);

    if (err == NULL || launch->skipped.most > 0 || gp__handshake_is_likely(first.data, first.len)) {
        return;
    }
    if (handshake_follows(launch)) {
        add_sentence(err, follows, strlen(follows));
    } else {
        add_sentence(err, may_follow, strlen(may_follow));
    }
}

/* ---- The reports ----------------------------------------------------------------------------- */

int
gp__launch_report_exit(const gp__launch *launch, gp_error *err)
{
    int status = gp__process_status(launch->process);
    char how[96];

    gp_error_set(err, GP_EEXITED, "the plugin %s before its handshake",
                 gp__process_describe_exit(status, how, sizeof(how)));
    add_skipped(launch, err);
    add_stderr(launch, err);
    if (err != NULL) {
        err->number = status;
    }
    return GP_EEXITED;
}

int
gp__launch_report_timeout(const gp__launch *launch, gp_error *err)
{
    gp_error_set(err, GP_ESTARTTIMEOUT,
                 "timed out: the plugin printed no handshake within %g s and was killed",
                 (double)launch->options->start_timeout_ms / 1000);
    add_skipped(launch, err);
    add_stderr(launch, err);
    return GP_ESTARTTIMEOUT;
}

int
gp__launch_report_closed_output(const gp__launch *launch, gp_error *err)
{
    gp_error_set(err, GP_EHANDSHAKE,
                 "the plugin closed its stdout without printing a handshake, and was killed");
    add_skipped(launch, err);
    add_stderr(launch, err);
    add_runners_diagnosis(launch, err);
    return GP_EHANDSHAKE;
}

void
gp__launch_explain_handshake(const gp__launch *launch, gp_error *err)
{
    add_hint(launch, err);
    add_runners_diagnosis(launch, err);
}

/*
 * Append the end of stderr. A handshake line names only one of the plugin's versions; plugins made
 * with this library name the others on stderr when the host speaks none of them.
 */
void
gp__launch_explain_version(const gp__launch *launch, gp_error *err)
{
    char text[GP__TAIL + 1];
    const char *tail = gp__tail_text(gp__process_tail(launch->process), text);

    if (tail[0] != '\0') {
        add_to_message(err, "; its stderr ends with:\n%s", tail);
    }
}
