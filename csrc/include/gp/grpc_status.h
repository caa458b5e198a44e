/*
 * Layer: public. The status codes of gRPC ("Status codes and their use in gRPC"), for those parts
 * that do not see gRPC's own headers.
 */
#ifndef GP_GRPC_STATUS_H
#define GP_GRPC_STATUS_H

typedef enum gp_grpc_status {
    GP_GRPC_OK = 0,
    GP_GRPC_CANCELLED = 1,
    GP_GRPC_UNKNOWN = 2,
    GP_GRPC_INVALID_ARGUMENT = 3,
    GP_GRPC_DEADLINE_EXCEEDED = 4,
    GP_GRPC_NOT_FOUND = 5,
    GP_GRPC_ALREADY_EXISTS = 6,
    GP_GRPC_PERMISSION_DENIED = 7,
    GP_GRPC_RESOURCE_EXHAUSTED = 8,
    GP_GRPC_FAILED_PRECONDITION = 9,
    GP_GRPC_ABORTED = 10,
    GP_GRPC_OUT_OF_RANGE = 11,
    GP_GRPC_UNIMPLEMENTED = 12,
    GP_GRPC_INTERNAL = 13,
    GP_GRPC_UNAVAILABLE = 14,
    GP_GRPC_DATA_LOSS = 15,
    GP_GRPC_UNAUTHENTICATED = 16,
} gp_grpc_status;

#endif
