#include "netrpc/control.h"

#include <string.h>

#include "gp/lock.h"

/* The types of all values, which live as long as the process. */
typedef enum value_kind { FLAG, NAME, NUMBER, NOTHING, KINDS } value_kind;

static const gp_gob_member flag_member = {NULL, GP_GOB_BOOL, 0};
static const gp_gob_member name_member = {NULL, GP_GOB_STRING, 0};
static const gp_gob_member number_member = {NULL, GP_GOB_UINT, 0};

static gp_mutex lock = GP_MUTEX_INIT;
static gp_gob_type *types[KINDS] GP_GUARDED_BY(&lock); /* NULL: not made yet */

static void
reset_lock(void)
{
    lock = (gp_mutex)GP_MUTEX_INIT;
}

/* Returns: 0 or GP_ENOMEM. */
static int
find_type(const gp_gob_type **out, value_kind kind, gp_error *err)
{
    static gp_fork_part part = {.reset = reset_lock};
    static const gp_gob_member *const members[KINDS] = {&flag_member, &name_member, &number_member,
                                                        NULL};
    int rc = 0;

    gp_runtime_on_fork(&part);
    gp_mutex_lock(&lock);
    if (types[kind] == NULL) {
        rc = gp_gob_record_new(&types[kind], NULL, members[kind], kind == NOTHING ? 0 : 1, err);
    }
    *out = types[kind];
    gp_mutex_unlock(&lock);
    return rc;
}

/* Encode |record|, a value of the type |kind|. Returns 0 or GP_ENOMEM. */
static int
encode_value(gp_gob_output **out, value_kind kind, const void *record, gp_error *err)
{
    const gp_gob_type *type;
    int rc = find_type(&type, kind, err);

    if (rc < 0 || (rc = gp_gob_output_new(out, err)) < 0) {
        return rc;
    }
    rc = gp_gob_record_encode(*out, type, record, err);
    if (rc < 0) {
        gp_gob_output_free(*out);
    }
    return rc;
}

/* ---- Hosts ----------------------------------------------------------------------------------- */

static int
call_method(gp_netrpc_client *client, const char *method, value_kind kind, const void *args,
            int64_t deadline, const gp_interrupt *interrupt, gp_gob_message *reply, gp_error *err)
{
    gp_gob_output *output;
    int rc = encode_value(&output, kind, args, err);

    if (rc < 0) {
        return rc;
    }
    rc = gp_netrpc_call(client, (gp_bytes){method, strlen(method)}, output, deadline, interrupt,
                        reply, err);
    gp_gob_output_free(output);
    return rc;
}

/* Call a method that takes a flag, as go-plugin has it, and whose reply has nothing in it. */
static int
call_with_flag(gp_netrpc_client *client, const char *method, int64_t deadline,
               const gp_interrupt *interrupt, gp_error *err)
{
    static const bool flag = true;
    gp_gob_message reply = GP_GOB_MESSAGE_INIT;
    int rc = call_method(client, method, FLAG, &flag, deadline, interrupt, &reply, err);

    gp_gob_message_release(&reply);
    return rc;
}

int
gp__control_ping(gp_netrpc_client *client, int64_t deadline, const gp_interrupt *interrupt,
                 gp_error *err)
{
    return call_with_flag(client, "Control.Ping", deadline, interrupt, err);
}

int
gp__control_quit(gp_netrpc_client *client, int64_t deadline, const gp_interrupt *interrupt,
                 gp_error *err)
{
    return call_with_flag(client, "Control.Quit", deadline, interrupt, err);
}

int
gp__control_dispense(gp_netrpc_client *client, const char *name, int64_t deadline,
                     const gp_interrupt *interrupt, uint32_t *id, gp_error *err)
{
    const gp_gob_text text = {name, strlen(name)};
    gp_gob_message reply = GP_GOB_MESSAGE_INIT;
    const gp_gob_type *type;
    uint64_t number = 0;
    int rc =
        call_method(client, "Dispenser.Dispense", NAME, &text, deadline, interrupt, &reply, err);

    if (rc == 0 && (rc = find_type(&type, NUMBER, err)) == 0) {
        rc = gp_gob_record_decode(gp_netrpc_client_decoder(client), &reply, type, &number, err);
    }
    if (rc == 0 && number > UINT32_MAX) {
        rc = gp_error_set(err, GP_EGOB, "the plugin has answered with an id of more than 32 bits");
    }
    gp_gob_message_release(&reply);
    *id = (uint32_t)number;
    return rc;
}

/* ---- Plugins --------------------------------------------------------------------------------- */

int
gp__control_read_name(const gp_netrpc_request *request, gp_bytes *name, gp_error *err)
{
    const gp_gob_type *type;
    gp_gob_text text = {NULL, 0};
    int rc = find_type(&type, NAME, err);

    if (rc == 0) {
        rc = gp_gob_record_decode(gp_netrpc_request_decoder(request),
                                  gp_netrpc_request_args(request), type, &text, err);
    }
    *name = (gp_bytes){text.data, text.len};
    return rc;
}

static void
reply_value(gp_netrpc_request *request, value_kind kind, const void *record)
{
    static const char short_of_memory[] = "out of memory";
    gp_gob_output *output;

    if (encode_value(&output, kind, record, NULL) < 0) {
        gp_netrpc_request_fail(request, (gp_bytes){short_of_memory, sizeof(short_of_memory) - 1});
        return;
    }
    gp_netrpc_request_reply(request, output);
    gp_gob_output_free(output);
}

void
gp__control_reply_nothing(gp_netrpc_request *request)
{
    static const char nothing = 0;

    reply_value(request, NOTHING, &nothing);
}

void
gp__control_reply_id(gp_netrpc_request *request, uint32_t id)
{
    const uint64_t number = id;

    reply_value(request, NUMBER, &number);
}
