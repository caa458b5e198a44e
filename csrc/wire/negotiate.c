#include "wire/negotiate.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "gp/handshake.h"

static bool
has_version(const int *versions, size_t count, int version)
{
    for (size_t i = 0; i < count; i++) {
        if (versions[i] == version) {
            return true;
        }
    }
    return false;
}

int
gp__version_accept(int version, const int *ours, size_t count, gp_error *err)
{
    gp__buf list = GP__BUF_INIT;
    int rc = 0;

    if (has_version(ours, count, version)) {
        return 0;
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = gp__buf_printf(&list, i > 0 ? ", %d" : "%d", ours[i]);
    }
    gp_error_set(err, GP_EVERSION,
                 "incompatible API version: the plugin speaks version %d, this host speaks %.*s; "
                 "one of the two needs an update",
                 version, list.len > 0 && rc == 0 ? (int)list.len : 4,
                 list.len > 0 && rc == 0 ? list.data : "none");
    if (err != NULL) {
        err->number = version;
    }
    gp__buf_release(&list);
    return GP_EVERSION;
}

/* Remove the next entry from a comma-separated list, and return it. */
static gp__text
next_entry(gp__text *list)
{
    const char *comma = memchr(list->data, ',', list->len);
    gp__text entry = {list->data, comma != NULL ? (size_t)(comma - list->data) : list->len};
    size_t taken = entry.len + (comma != NULL ? 1 : 0);

    list->data += taken;
    list->len -= taken;
    return gp__text_trim(entry);
}

/* Note each entry that is not an integer. */
static void
report_invalid(gp__text list, gp_version_note *note, void *ctx)
{
    while (list.len > 0) {
        gp__text entry = next_entry(&list);
        char quoted[GP__QUOTED];
        char text[GP__QUOTED + 80];
        int ignored;

        if (!gp__text_int(entry, &ignored)) {
            snprintf(text, sizeof(text), "ignoring %s in PLUGIN_PROTOCOL_VERSIONS: not an integer",
                     gp__quote(quoted, entry.data, entry.len));
            note(ctx, text);
        }
    }
}

/* Note all versions of both sides: the host, which will refuse the plugin, sees only |chosen|. */
static void
report_mismatch(const int *versions, size_t count, gp__text list, int chosen, gp_version_note *note,
                void *ctx)
{
    char quoted[GP__QUOTED];
    gp__buf text = GP__BUF_INIT;
    int rc = gp__buf_printf(&text, "no version in common: the host speaks %s, this plugin",
                            gp__quote(quoted, list.data, list.len));

    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = gp__buf_printf(&text, i > 0 ? ", %d" : " %d", versions[i]);
    }
    if (rc == 0 && gp__buf_printf(&text, "; it serves %d", chosen) == 0 &&
        gp__buf_append(&text, "", 1) == 0) {
        note(ctx, text.data);
    }
    gp__buf_release(&text);
}

/* Whether |version| is in a comma-separated list. */
static bool
list_has_version(gp__text list, int version)
{
    while (list.len > 0) {
        int listed;

        if (gp__text_int(next_entry(&list), &listed) && listed == version) {
            return true;
        }
    }
    return false;
}

int
gp_version_choose(int *out, const int *versions, size_t count, const char *listed,
                  gp_version_note *note, void *ctx, gp_error *err)
{
    gp__text list = {listed, listed != NULL ? strlen(listed) : 0};
    bool found = false;

    if (count == 0) {
        return gp_error_set(err, GP_EINVAL, "the plugin has no protocol version to offer");
    }
    if (note != NULL) {
        report_invalid(list, note, ctx);
    }
    *out = versions[0];
    for (size_t i = 0; i < count; i++) {
        bool match = list_has_version(list, versions[i]);

        /* Versions that the host lists come first: of those the highest, else the lowest of all. */
        if (match ? !found || versions[i] > *out : !found && versions[i] < *out) {
            *out = versions[i];
        }
        found = found || match;
    }
    if (!found && list.len > 0 && note != NULL) {
        report_mismatch(versions, count, list, *out, note, ctx);
    }
    return found ? 1 : 0;
}
