#!/bin/sh
# Regenerate counterpb from counter.proto.
#
# Needs protoc (Debian: protobuf-compiler) and Go's generators:
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
#   go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1
set -eu

cd "$(dirname "$0")"
mkdir -p counterpb
PATH="$(go env GOPATH)/bin:$PATH" protoc -I .. \
    --go_out=counterpb --go_opt=paths=source_relative \
    --go-grpc_out=counterpb --go-grpc_opt=paths=source_relative \
    counter.proto
