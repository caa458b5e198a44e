#include "gp/lock.h"
#include "rpc_fixture.h"

#include "base/alloc.h"
#include "gp/credentials.h"
#include "identity.h"

static identity authority;
static identity server_identity;
static identity client_identity;
static identity stranger;

static int
make_identities(void **state)
{
    (void)state;
    authority = identity_issue("authority", NULL);
    server_identity = identity_issue("server", &authority);
    client_identity = identity_issue("client", &authority);
    stranger = identity_issue("stranger", NULL);
    return 0;
}

static int
free_identities(void **state)
{
    (void)state;
    identity_release(&authority);
    identity_release(&server_identity);
    identity_release(&client_identity);
    identity_release(&stranger);
    return 0;
}

/* ---- A server and a channel with TLS, on the fixture's methods ---- */

static gp_auth_context *seen; /* the client of the last call */
static char seen_token[256];  /* its header "authorization" or "token" */
static gp_mutex seen_lock = GP_MUTEX_INIT;

static void
run_and_see(void *ctx, gp_server_call *call, void *data)
{
    gp_metadata metadata = gp_server_call_metadata(call);

    gp_mutex_lock(&seen_lock);
    gp_auth_context_free(seen);
    seen = gp_server_call_auth_context(call);
    seen_token[0] = '\0';
    for (size_t i = 0; i < metadata.count; i++) {
        gp_bytes key = metadata.items[i].key;

        if ((key.len == 13 && memcmp(key.data, "authorization", 13) == 0) ||
            (key.len == 5 && memcmp(key.data, "token", 5) == 0)) {
            snprintf(seen_token, sizeof(seen_token), "%.*s", (int)metadata.items[i].value.len,
                     (const char *)metadata.items[i].value.data);
        }
    }
    gp_mutex_unlock(&seen_lock);
    fixture_run(ctx, call, data);
}

/*
 * The client of the last call, whose reply has arrived. ThreadSanitizer cannot see that order
 * through a socket: the lock shows it.
 */
static const gp_auth_context *
last_client(void)
{
    const gp_auth_context *client;

    gp_mutex_lock(&seen_lock);
    client = seen;
    gp_mutex_unlock(&seen_lock);
    return client;
}

static const char *
last_token(void)
{
    gp_mutex_lock(&seen_lock);
    gp_mutex_unlock(&seen_lock);
    return seen_token;
}

/* The values under |key|, separated by commas. */
static const char *
property(const char *key)
{
    static char found[4096];
    const gp_auth_context *client = last_client();
    size_t used = 0;

    found[0] = '\0';
    for (size_t i = 0; i < client->properties.count; i++) {
        gp_metadatum item = client->properties.items[i];

        if (item.key.len == strlen(key) && memcmp(item.key.data, key, item.key.len) == 0) {
            used +=
                (size_t)snprintf(found + used, sizeof(found) - used, "%s%.*s", used > 0 ? "," : "",
                                 (int)item.value.len, (const char *)item.value.data);
        }
    }
    return found;
}

static void
serve(fixture *self, bool require_client)
{
    gp_key_pair pair = identity_pair(&server_identity);
    gp_server_credentials *credentials;
    gp_error err = GP_ERROR_INIT;
    gp_server_options options = {
        .handler = {.begin = fixture_begin, .run = run_and_see, .release = fixture_release},
        .handler_ctx = self,
        .max_workers = 2,
        .general = true,
    };
    int port;

    memset(self, 0, sizeof(*self));
    gp_mutex_init(&self->lock);
    gp_cond_init(&self->changed);
    assert_int_equal(gp_server_credentials_ssl(&credentials, &pair, 1, authority.certificate_pem,
                                               require_client, &err),
                     0);
    assert_int_equal(gp_server_new(&self->server, &options, &err), 0);
    assert_int_equal(gp_server_listen_secure(self->server, "127.0.0.1:0", credentials, &port, &err),
                     0);
    gp_server_credentials_free(credentials);
    snprintf(self->target, sizeof(self->target), "ipv4:127.0.0.1:%d", port);
    assert_int_equal(gp_server_start(self->server, &err), 0);
}

/* Open the fixture's channel with |credentials|, which are freed. */
static void
connect_with(fixture *self, gp_channel_credentials *credentials)
{
    static const gp_channel_arg name = {.key = "grpc.ssl_target_name_override",
                                        .string = "localhost"};
    gp_channel_options options = {
        .args = &name, .args_count = 1, .credentials = credentials, .general = true};

    assert_int_equal(gp_channel_open(&self->channel, self->target, &options, NULL), 0);
    assert_true(gp_channel_secure(self->channel));
    gp_channel_credentials_free(credentials);
}

static gp_channel_credentials *
trusting(const identity *root, const identity *own)
{
    gp_channel_credentials *credentials = NULL;
    gp_key_pair pair;

    if (own != NULL) {
        pair = identity_pair(own);
    }
    assert_int_equal(gp_channel_credentials_ssl(&credentials, root->certificate_pem,
                                                own != NULL ? &pair : NULL, NULL),
                     0);
    return credentials;
}

static int
echo(fixture *self, const gp_call_credentials *credentials)
{
    gp_call_options options = options_for("/t/Echo");
    gp_call *call;
    int code;

    options.credentials = credentials;
    assert_int_equal(gp_call_start_unary(&call, self->channel, &options, text("hello"), NULL), 0);
    code = outcome(call);
    if (code == 0) {
        assert_reply(call, "hello");
    }
    gp_call_unref(call);
    return code;
}

static void
stop(fixture *self)
{
    fixture_stop(self);
    gp_auth_context_free(seen);
    seen = NULL;
}

/* A call that fails before it reaches the server. It starts no worker. */
static void
expect_refusal(const identity *root, const identity *own, bool require_client)
{
    fixture self;

    serve(&self, require_client);
    connect_with(&self, trusting(root, own));
    assert_int_equal(echo(&self, NULL), 14);
    stop(&self);
}

/* ---- Tests ---- */

static void
a_call_over_tls(void **state)
{
    fixture self;

    (void)state;
    serve(&self, false);
    connect_with(&self, trusting(&authority, NULL));
    assert_int_equal(echo(&self, NULL), 0);
    assert_null(last_client()->identity_key);
    assert_string_equal(property("transport_security_type"), "ssl");
    stop(&self);
}

static void
a_call_with_client_certificates(void **state)
{
    fixture self;

    (void)state;
    serve(&self, true);
    connect_with(&self, trusting(&authority, &client_identity));
    assert_int_equal(echo(&self, NULL), 0);
    assert_string_equal(last_client()->identity_key, "x509_subject_alternative_name");
    assert_string_equal(property(last_client()->identity_key), "localhost");
    assert_string_equal(property("x509_common_name"), "client");
    assert_string_equal(property("x509_pem_cert"), client_identity.certificate_pem);
    stop(&self);
}

static void
strangers_are_refused(void **state)
{
    (void)state;
    expect_refusal(&stranger, NULL, false);
    expect_refusal(&authority, NULL, true);
    expect_refusal(&authority, &stranger, true);
}

static void
without_tls_peers_have_no_identity(void **state)
{
    gp_call_credentials *token;
    fixture self;

    (void)state;
    fixture_start(&self, 2, 0);
    assert_false(gp_channel_secure(self.channel));
    assert_int_equal(echo(&self, NULL), 0);
    assert_int_equal(gp_call_credentials_token(&token, "secret", NULL), 0);
    assert_int_equal(echo(&self, token), 16); /* never in the clear */
    gp_call_credentials_free(token);
    fixture_stop(&self);
}

static void
expect_invalid(int rc, gp_error *err, const char *expected)
{
    assert_int_equal(rc, GP_EINVAL);
    if (strstr(gp_error_message(err), expected) == NULL) {
        fail_msg("'%s' does not contain '%s'", gp_error_message(err), expected);
    }
    gp_error_release(err);
}

static void
what_is_not_pem_is_refused(void **state)
{
    gp_channel_credentials *channel;
    gp_server_credentials *server;
    gp_error err = GP_ERROR_INIT;
    gp_key_pair mixed = {client_identity.key_pem, server_identity.certificate_pem};
    gp_key_pair half = {server_identity.key_pem, NULL};
    gp_key_pair swapped = {server_identity.certificate_pem, server_identity.certificate_pem};
    gp_key_pair garbage = {"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n",
                           server_identity.certificate_pem};
    gp_key_pair good = identity_pair(&server_identity);

    (void)state;
    expect_invalid(gp_channel_credentials_ssl(&channel, "", NULL, &err), &err, "no certificate");
    expect_invalid(gp_channel_credentials_ssl(&channel, server_identity.key_pem, NULL, &err), &err,
                   "the root certificates");
    expect_invalid(
        gp_channel_credentials_ssl(
            &channel, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", NULL, &err),
        &err, "certificate 1 cannot be read");
    expect_invalid(gp_channel_credentials_ssl(&channel, NULL, &half, &err), &err,
                   "the client's private key and certificate chain go together");
    expect_invalid(gp_channel_credentials_ssl(&channel, NULL, &mixed, &err), &err,
                   "does not belong");
    expect_invalid(gp_server_credentials_ssl(&server, &swapped, 1, NULL, false, &err), &err,
                   "the server's private key cannot be read");
    expect_invalid(gp_server_credentials_ssl(&server, &garbage, 1, NULL, false, &err), &err,
                   "an unencrypted key in PEM is expected");
    expect_invalid(gp_server_credentials_ssl(&server, &good, 0, NULL, false, &err), &err,
                   "at least one pair");
    expect_invalid(gp_server_credentials_ssl(&server, &good, 1, NULL, true, &err), &err,
                   "only with root certificates");
    expect_invalid(gp_server_credentials_ssl(&server, &good, 1, "x", false, &err), &err,
                   "the root certificates");
}

static void
a_token_is_a_header(void **state)
{
    gp_call_credentials *token;
    gp_error err = GP_ERROR_INIT;
    fixture self;

    (void)state;
    serve(&self, false);
    connect_with(&self, trusting(&authority, NULL));
    assert_int_equal(gp_call_credentials_token(&token, "secret", &err), 0);
    assert_int_equal(echo(&self, token), 0);
    assert_string_equal(last_token(), "Bearer secret");
    gp_call_credentials_free(token);
    expect_invalid(gp_call_credentials_token(&token, "a\nb", &err), &err, "printable ASCII");
    stop(&self);
}

/* ---- Plugins ---- */

typedef struct plugin {
    enum { ANSWER, FAIL, REFUSE } how;
    atomic_int asked;
    atomic_int released;
} plugin;

typedef struct answer {
    gp_auth_request *request;
    bool fail;
} answer;

static void *
run_answer(void *arg)
{
    answer *self = arg;
    gp_metadatum item = {text("token"), text("from the plugin")};

    assert_string_equal(gp_auth_request_method(self->request), "Echo");
    assert_non_null(strstr(gp_auth_request_service_url(self->request), "https://"));
    gp_auth_request_answer(self->request, (gp_metadata){&item, 1},
                           self->fail ? "no token today" : NULL);
    free(self);
    return NULL;
}

static bool
ask(void *ctx, gp_auth_request *request)
{
    plugin *self = ctx;
    pthread_t thread;
    answer *given;

    atomic_fetch_add(&self->asked, 1);
    if (self->how == REFUSE) {
        return false;
    }
    given = malloc(sizeof(*given));
    *given = (answer){request, self->how == FAIL};
    pthread_create(&thread, NULL, run_answer, given);
    pthread_detach(thread);
    return true;
}

static void
release(void *ctx)
{
    atomic_fetch_add(&((plugin *)ctx)->released, 1);
}

static gp_call_credentials *
asking(plugin *self)
{
    gp_auth_plugin made = {ask, release, self};
    gp_call_credentials *credentials;

    assert_int_equal(gp_call_credentials_plugin(&credentials, &made, NULL), 0);
    return credentials;
}

static void
wait_released(plugin *self)
{
    int64_t deadline = gp_deadline_in(20000);

    while (atomic_load(&self->released) == 0) {
        assert_true(gp__now() < deadline);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&self->released), 1);
}

static void
a_plugin_provides_metadata(void **state)
{
    plugin one = {.how = ANSWER};
    plugin two = {.how = ANSWER};
    gp_call_credentials *first = asking(&one);
    gp_call_credentials *second = asking(&two);
    gp_call_credentials *both;
    gp_channel_credentials *plain = trusting(&authority, NULL);
    gp_channel_credentials *composed;
    fixture self;

    (void)state;
    serve(&self, false);
    assert_int_equal(gp_channel_credentials_compose(&composed, plain, first, NULL), 0);
    gp_channel_credentials_free(plain);
    connect_with(&self, composed);
    assert_int_equal(gp_call_credentials_compose(&both, first, second, NULL), 0);
    assert_int_equal(echo(&self, NULL), 0);
    assert_string_equal(last_token(), "from the plugin");
    assert_int_equal(atomic_load(&one.asked), 1);
    assert_int_equal(echo(&self, both), 0);
    assert_int_equal(atomic_load(&one.asked), 3);
    assert_int_equal(atomic_load(&two.asked), 1);
    gp_call_credentials_free(first);
    gp_call_credentials_free(second);
    gp_call_credentials_free(both);
    stop(&self);
    wait_released(&one);
    wait_released(&two);
}

static void
a_failing_plugin_fails_the_call(void **state)
{
    plugin failing = {.how = FAIL};
    plugin refusing = {.how = REFUSE};
    gp_call_credentials *one = asking(&failing);
    gp_call_credentials *two = asking(&refusing);
    fixture self;

    (void)state;
    serve(&self, false);
    connect_with(&self, trusting(&authority, NULL));
    assert_int_equal(echo(&self, one), 14);
    assert_int_equal(echo(&self, two), 14);
    assert_int_equal(echo(&self, NULL), 0);
    gp_call_credentials_free(one);
    gp_call_credentials_free(two);
    stop(&self);
    wait_released(&failing);
    wait_released(&refusing);
}

/* ---- Memory ---- */

static int allocations_left;

static void *
failing_realloc(void *ptr, size_t size)
{
    return allocations_left-- > 0 ? realloc(ptr, size) : NULL;
}

static void
each_allocation_may_fail(void **state)
{
    static const gp__allocator failing = {failing_realloc, free};
    gp_key_pair pair = identity_pair(&server_identity);
    gp_auth_plugin made = {ask, release, &(plugin){.how = REFUSE}};
    gp_channel_credentials *channel;
    gp_server_credentials *server;
    gp_call_credentials *call;
    bool all = false;

    (void)state;
    for (int i = 0; !all; i++) {
        int rc[4];

        gp__set_allocator(&failing);
        allocations_left = i;
        rc[0] = gp_channel_credentials_ssl(&channel, NULL, &pair, NULL);
        allocations_left = i;
        rc[1] = gp_server_credentials_ssl(&server, &pair, 1, NULL, false, NULL);
        allocations_left = i;
        rc[2] = gp_call_credentials_token(&call, "x", NULL);
        gp_call_credentials_free(rc[2] == 0 ? call : NULL);
        allocations_left = i;
        rc[3] = gp_call_credentials_plugin(&call, &made, NULL);
        gp_call_credentials_free(rc[3] == 0 ? call : NULL);
        gp__set_allocator(NULL);
        gp_channel_credentials_free(rc[0] == 0 ? channel : NULL);
        gp_server_credentials_free(rc[1] == 0 ? server : NULL);
        all = true;
        for (size_t j = 0; j < sizeof(rc) / sizeof(rc[0]); j++) {
            assert_true(rc[j] == 0 || rc[j] == GP_ENOMEM);
            all = all && rc[j] == 0;
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_over_tls),
        cmocka_unit_test(a_call_with_client_certificates),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(without_tls_peers_have_no_identity),
        cmocka_unit_test(what_is_not_pem_is_refused),
        cmocka_unit_test(a_token_is_a_header),
        cmocka_unit_test(a_plugin_provides_metadata),
        cmocka_unit_test(a_failing_plugin_fails_the_call),
        cmocka_unit_test(each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, make_identities, free_identities);
}
