#!/bin/sh
# Build every command into a directory: build.sh <outdir>
set -eu

if [ $# -ne 1 ]; then
    echo "usage: build.sh <outdir>" >&2
    exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
exec go build -o "$out/" ./cmd/...
