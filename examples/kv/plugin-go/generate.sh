#!/bin/sh
# Regenerate kvpb from kv.proto.
#
# Needs protoc (Debian: protobuf-compiler) and Go's generators:
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
#   go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1
set -eu

cd "$(dirname "$0")"
mkdir -p kvpb
PATH="$(go env GOPATH)/bin:$PATH" protoc -I .. \
    --go_out=kvpb --go_opt=paths=source_relative \
    --go-grpc_out=kvpb --go-grpc_opt=paths=source_relative \
    kv.proto
