#include <string.h>

#include "base/alloc.h"
#include "gen/reflection.pb-c.h"
#include "gp/grpc_status.h"
#include "gp/services.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest request_type;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_type;

int
gp_reflection_parse(gp_reflection_query *out, gp_bytes request)
{
    request_type *parsed =
        grpc__reflection__v1__server_reflection_request__unpack(NULL, request.len, request.data);

    if (parsed == NULL) {
        return GP_EINVAL;
    }
    *out = (gp_reflection_query){.kind = GP_REFLECT_UNKNOWN, .name = "", .message = parsed};
    switch (parsed->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        out->kind = GP_REFLECT_FILE;
        out->name = parsed->file_by_filename;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        out->kind = GP_REFLECT_SYMBOL;
        out->name = parsed->file_containing_symbol;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
        out->kind = GP_REFLECT_EXTENSION;
        out->name = parsed->file_containing_extension->containing_type;
        out->number = parsed->file_containing_extension->extension_number;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        out->kind = GP_REFLECT_EXTENSIONS;
        out->name = parsed->all_extension_numbers_of_type;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        out->kind = GP_REFLECT_SERVICES;
        break;
    default:
        break;
    }
    return 0;
}

void
gp_reflection_release(gp_reflection_query *query)
{
    if (query->message != NULL) {
        grpc__reflection__v1__server_reflection_request__free_unpacked(query->message, NULL);
        query->message = NULL;
    }
}

static int
pack_response(unsigned char **out, size_t *len, const response_type *response)
{
    *len = grpc__reflection__v1__server_reflection_response__get_packed_size(response);
    *out = gp__malloc(*len);
    if (*out == NULL) {
        return GP_ENOMEM;
    }
    grpc__reflection__v1__server_reflection_response__pack(response, *out);
    return 0;
}

static int
respond_error(unsigned char **out, size_t *len, response_type *response, const char *text)
{
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    error.error_code = GP_GRPC_NOT_FOUND;
    error.error_message = (char *)(uintptr_t)text; /* only read */
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response->error_response = &error;
    return pack_response(out, len, response);
}

static int
respond_files(unsigned char **out, size_t *len, response_type *response,
              const gp_reflection_answer *answer)
{
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    int rc;

    files.n_file_descriptor_proto = answer->count;
    files.file_descriptor_proto = gp__calloc(answer->count, sizeof(ProtobufCBinaryData));
    if (files.file_descriptor_proto == NULL) {
        return GP_ENOMEM;
    }
    for (size_t i = 0; i < answer->count; i++) {
        files.file_descriptor_proto[i].data = (uint8_t *)(uintptr_t)answer->items[i].data;
        files.file_descriptor_proto[i].len = answer->items[i].len;
    }
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response->file_descriptor_response = &files;
    rc = pack_response(out, len, response);
    gp__free(files.file_descriptor_proto);
    return rc;
}

static int
respond_numbers(unsigned char **out, size_t *len, response_type *response,
                const gp_reflection_query *query, const gp_reflection_answer *answer)
{
    Grpc__Reflection__V1__ExtensionNumberResponse numbers =
        GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;

    numbers.base_type_name = (char *)(uintptr_t)query->name;
    numbers.n_extension_number = answer->count;
    numbers.extension_number = (int32_t *)(uintptr_t)answer->numbers;
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    response->all_extension_numbers_response = &numbers;
    return pack_response(out, len, response);
}

static int
respond_services(unsigned char **out, size_t *len, response_type *response,
                 const gp_reflection_answer *answer)
{
    Grpc__Reflection__V1__ListServiceResponse list =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse *services = gp__calloc(answer->count, sizeof(*services));
    int rc = GP_ENOMEM;

    list.n_service = answer->count;
    list.service = gp__calloc(answer->count, sizeof(*list.service));
    if (services != NULL && list.service != NULL) {
        for (size_t i = 0; i < answer->count; i++) {
            grpc__reflection__v1__service_response__init(&services[i]);
            services[i].name = (char *)(uintptr_t)answer->items[i].data;
            list.service[i] = &services[i];
        }
        response->message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
        response->list_services_response = &list;
        rc = pack_response(out, len, response);
    }
    gp__free(list.service);
    gp__free(services);
    return rc;
}

int
gp_reflection_respond(unsigned char **out, size_t *len, const gp_reflection_query *query,
                      const gp_reflection_answer *answer)
{
    response_type response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    request_type *request = query->message;

    response.valid_host = request->host;
    response.original_request = request;
    if (answer->error != NULL) {
        return respond_error(out, len, &response, answer->error);
    }
    switch (query->kind) {
    case GP_REFLECT_EXTENSIONS:
        return respond_numbers(out, len, &response, query, answer);
    case GP_REFLECT_SERVICES:
        return respond_services(out, len, &response, answer);
    case GP_REFLECT_UNKNOWN:
        return respond_error(out, len, &response, "unknown kind of reflection request");
    default:
        return respond_files(out, len, &response, answer);
    }
}

void
gp_reflection_free(unsigned char *bytes)
{
    gp__free(bytes);
}
