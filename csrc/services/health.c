#include "services/health.h"

#include <string.h>

#include "base/alloc.h"
#include "gen/health.pb-c.h"
#include "gp/grpc_status.h"
#include "gp/services.h"
#include "rpc/method.h"
#include "services/request.h"

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"
#define LIST "/grpc.health.v1.Health/List"

enum { SMALL = 64 };

/* Freed by the server that it belongs to. */
typedef struct health {
    gp__method methods[3];
    gp_bytes list; /* borrowed: the reply of List, which follows |service| */
    char service[];
} health;

/* Serialize a response with |status| to |out|, which has room for SMALL bytes. */
static gp_bytes
pack_status(Grpc__Health__V1__HealthCheckResponse__ServingStatus status, unsigned char *out)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    response.status = status;
    return (gp_bytes){out, grpc__health__v1__health_check_response__pack(&response, out)};
}

static void
finish_with_error(gp_server_call *call, gp_grpc_status code, const char *text)
{
    gp_server_call_finish(call, code, (gp_bytes){text, strlen(text)}, (gp_metadata){NULL, 0});
}

/* Whether |request| names a known service (1 or 0); -1 if it cannot be parsed. */
static int
names_known_service(const health *self, const gp_message *request)
{
    Grpc__Health__V1__HealthCheckRequest *parsed;
    size_t len = request != NULL ? gp_message_size(request) : 0;
    unsigned char *bytes = gp__malloc(len);
    int known;

    if (bytes == NULL || request == NULL) {
        gp__free(bytes);
        return -1;
    }
    gp_message_copy(request, bytes);
    parsed = grpc__health__v1__health_check_request__unpack(NULL, len, bytes);
    gp__free(bytes);
    if (parsed == NULL) {
        return -1;
    }
    known = parsed->service[0] == '\0' || strcmp(parsed->service, self->service) == 0;
    grpc__health__v1__health_check_request__free_unpacked(parsed, NULL);
    return known;
}

static void
answer_check(void *ctx, gp_server_call *call, const gp_message *request)
{
    unsigned char out[SMALL];

    switch (names_known_service(ctx, request)) {
    case 1:
        gp_server_call_reply(
            call,
            pack_status(GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING, out), 0,
            (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
        break;
    case 0:
        finish_with_error(call, GP_GRPC_NOT_FOUND, "unknown service");
        break;
    default:
        finish_with_error(call, GP_GRPC_INVALID_ARGUMENT, "not a health check request");
    }
}

/*
 * The status never changes while the server runs: the call gets one message, and goes on until one
 * side ends it.
 */
static void
answer_watch(void *ctx, gp_server_call *call, const gp_message *request)
{
    unsigned char out[SMALL];
    int known = names_known_service(ctx, request);

    if (known < 0) {
        finish_with_error(call, GP_GRPC_INVALID_ARGUMENT, "not a health check request");
        return;
    }
    gp_server_call_send(
        call,
        pack_status(known
                        ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                        : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN,
                    out),
        NULL);
}

static void
answer_list(void *ctx, gp_server_call *call, const gp_message *request)
{
    const health *self = ctx;

    (void)request; /* it has no fields */
    gp_server_call_reply(call, self->list, 0, (gp_bytes){"", 0}, (gp_metadata){NULL, 0});
}

/*
 * Encode an entry of HealthListResponse.statuses. That is a map, which protobuf-c cannot encode:
 * field 1, a message with the key in field 1 and HealthCheckResponse{status: SERVING} in field 2.
 * Returns where the entry ends.
 */
static unsigned char *
put_serving(unsigned char *out, const char *service)
{
    size_t len = strlen(service);

    *out++ = 0x0a;
    *out++ = (unsigned char)(len + 6);
    *out++ = 0x0a;
    *out++ = (unsigned char)len;
    memcpy(out, service, len);
    out += len;
    memcpy(out, "\x12\x02\x08\x01", 4);
    return out + 4;
}

int
gp_server_add_health(gp_server *server, const char *service, gp_error *err)
{
    enum { LONGEST = 100, ENTRY = 8 };
    size_t len = strlen(service) + 1;
    unsigned char *list;
    unsigned char *end;
    health *self;

    if (len > LONGEST) {
        return gp_error_set(err, GP_EINVAL, "the name of a service has at most %d characters",
                            LONGEST - 1);
    }
    self = gp__calloc(1, sizeof(*self) + 2 * len + 2 * ENTRY);
    if (self == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for the health service");
    }
    memcpy(self->service, service, len);
    list = (unsigned char *)self->service + len;
    end = put_serving(list, "");
    end = service[0] != '\0' ? put_serving(end, service) : end;
    self->list = (gp_bytes){list, (size_t)(end - list)};
    self->methods[0] = (gp__method){.path = CHECK, .answer = answer_check, .ctx = self};
    self->methods[1] =
        (gp__method){.path = WATCH, .answer = answer_watch, .ctx = self, .endless = true};
    self->methods[2] = (gp__method){.path = LIST, .answer = answer_list, .ctx = self};
    return gp__server_add_methods(server, self->methods, 3, self, err);
}

int
gp__health_check(gp_channel *channel, const char *service, int64_t timeout_ms,
                 const gp_interrupt *interrupt, gp_error *err)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Grpc__Health__V1__HealthCheckResponse *response;
    unsigned char *bytes;
    size_t len;
    int rc;

    request.service = (char *)(uintptr_t)service; /* only read */
    len = grpc__health__v1__health_check_request__get_packed_size(&request);
    bytes = gp__malloc(len);
    if (bytes == NULL) {
        return gp_error_set(err, GP_ENOMEM, "out of memory for a health check");
    }
    grpc__health__v1__health_check_request__pack(&request, bytes);
    unsigned char *reply = NULL;
    rc = gp__request(channel, CHECK, (gp_bytes){bytes, len}, timeout_ms, interrupt, &reply, &len,
                     err);
    gp__free(bytes);
    if (rc < 0) {
        return rc;
    }
    response = grpc__health__v1__health_check_response__unpack(NULL, len, reply);
    gp__free(reply);
    if (response == NULL ||
        response->status != GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING) {
        rc = gp_error_set(err, GP_ERPC, "the service \"%s\" answers that it is not serving",
                          service);
    }
    if (response != NULL) {
        grpc__health__v1__health_check_response__free_unpacked(response, NULL);
    }
    return rc;
}
