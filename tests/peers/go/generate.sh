#!/bin/sh
# Regenerate kvpb and probepb from the .proto files.
#
# Needs protoc (Debian: protobuf-compiler). The Go generators are tool
# dependencies of this module, so their versions are those of go.mod.
set -eu

cd "$(dirname "$0")"
root=../../..
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

go build -o "$tools/" \
    google.golang.org/protobuf/cmd/protoc-gen-go \
    google.golang.org/grpc/cmd/protoc-gen-go-grpc

# Usage: generate <directory of the .proto file> <name>
generate() {
    package="pygo-plugin.example/peers/$2pb"
    mkdir -p "$2pb"
    PATH="$tools:$PATH" protoc -I "$1" \
        --go_out="$2pb" --go_opt="paths=source_relative,M$2.proto=$package" \
        --go-grpc_out="$2pb" --go-grpc_opt="paths=source_relative,M$2.proto=$package" \
        "$2.proto"
}

generate "$root/examples/kv" kv
generate "$root/tests/proto" probe
