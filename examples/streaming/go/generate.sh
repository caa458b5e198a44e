#!/bin/sh
# Regenerate filepb and shoutpb from the protos.
#
# Needs protoc (Debian: protobuf-compiler) and Go's generators:
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
#   go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1
set -eu

cd "$(dirname "$0")"
for name in file shout; do
    mkdir -p "${name}pb"
    PATH="$(go env GOPATH)/bin:$PATH" protoc -I .. \
        --go_out="${name}pb" --go_opt=paths=source_relative \
        --go-grpc_out="${name}pb" --go-grpc_opt=paths=source_relative \
        "$name.proto"
done
