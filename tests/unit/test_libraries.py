"""Which shared libraries a process loads, and when; and what happens if one is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pygo_plugin import _core

PACKAGE = Path(str(_core.__file__)).parent

# Libraries beside the extension, or the system's.
GRPC = "libpygo_core" if (PACKAGE / "libpygo_core.so").exists() else "libgrpc"
OPENSSL = "libpygo_tls" if (PACKAGE / "libpygo_tls.so").exists() else "libssl"

# These libraries, and those that only gRPC needs.
LATE = ("libpygo", "libgrpc", "libgpr", "libabsl", "libupb", "libre2", "libcares", "libstdc++")
LATE += ("libssl", "libcrypto")

PRELUDE = f"""
import sys

def loaded():
    with open("/proc/self/maps") as maps:
        files = {{line.rstrip().rpartition("/")[2] for line in maps if "/" in line}}
    return sorted(name for name in files if name.startswith({LATE!r}))

"""

# The start of a plugin that prints no handshake.
LAUNCH = """
from pygo_plugin import Client, ClientConfig, Cmd, HandshakeConfig, HandshakeError, Plugin

def client(**more):
    config = ClientConfig(
        handshake_config=HandshakeConfig(1, "KEY", "value"),
        plugins={"x": Plugin()},
        cmd=Cmd([sys.executable, "-S", "-c", "print('no handshake')"]),
        **more,
    )
    return Client(config)

try:
    client().start()
except HandshakeError:
    pass
else:
    raise SystemExit("the plugin has started")
"""

FORK = """
import os
import pygo_plugin.client

child = os.fork()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


# A fork while a plugin starts, which prints to its log and no handshake.
FORK_MEANWHILE = """
import logging, os, threading
from pygo_plugin import Client, ClientConfig, Cmd, HandshakeConfig, Plugin, rpc
from pygo_plugin import ForkedError, StartError

up = threading.Event()

class Handler(logging.Handler):
    def emit(self, record):
        up.set()

def start():
    try:
        client.start()
    except StartError:
        pass

logging.basicConfig(level=1, handlers=[Handler()])
config = ClientConfig(
    handshake_config=HandshakeConfig(1, "KEY", "value"),
    plugins={"x": Plugin()},
    cmd=Cmd(["/bin/sh", "-c", "echo up >&2; exec sleep 60"]),
)
client = Client(config)
starting = threading.Thread(target=start)
starting.start()
assert up.wait(60)
child = os.fork()
if child == 0:
    try:
        rpc.server()
    except ForkedError as error:
        assert "plugins were starting or running" in str(error), error
        assert "spawn" in str(error), error
        os._exit(len(loaded()))
    os._exit(99)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
client.kill()
starting.join()
"""


def run(statements: str, path: Path = PACKAGE.parent) -> list[str]:
    """The lines that the statements print in a new interpreter, with the package in |path|."""
    script = f"{PRELUDE}\nsys.path.insert(0, {str(path)!r})\n{statements}"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "statements",
    [
        "import pygo_plugin._core",
        "from pygo_plugin import *",
        "from pygo_plugin import Client, Server, serve, cleanup_clients; cleanup_clients()",
        "from pygo_plugin import broker, rpc, testing; rpc.server",
        LAUNCH,
        FORK,
        FORK_MEANWHILE,
    ],
    ids=["core", "all names", "client and server", "modules", "launch", "fork", "fork in launch"],
)
def test_what_uses_none_loads_none(statements: str) -> None:
    assert run(f"{statements}\nprint(loaded())") == ["[]"]


def test_clients_on_asyncio_load_no_grpc() -> None:
    (found,) = run("from pygo_plugin import aio\naio.Client, aio.serve\nprint(loaded())")
    assert GRPC not in found  # asyncio loads OpenSSL itself


@pytest.mark.parametrize(
    "statements",
    [
        "channel = rpc.insecure_channel('unix:/nowhere')",
        "server = rpc.server(max_workers=2)",
        "credentials = rpc.access_token_call_credentials('token')",
    ],
)
def test_grpc_is_loaded_when_it_is_used(statements: str) -> None:
    before, after = run(
        f"from pygo_plugin import rpc\nprint(loaded())\n{statements}\nprint(loaded())"
    )
    assert before == "[]"
    assert GRPC in after


def test_openssl_is_loaded_when_it_is_used() -> None:
    before, after = run(
        """
from pygo_plugin import SecureConfig, TLSConfig

TLSConfig()
print(loaded())
SecureConfig(bytes(32), hash="sha256")
print(loaded())
"""
    )
    assert before == "[]"
    assert OPENSSL in after
    assert GRPC not in after


# ---- A library that is missing -------------------------------------------------------------------


def copy_with(directory: Path, name: bytes, other: bytes) -> Path:
    """Copy the package to the directory, with another string in place of |name| in its core."""
    source = Path(str(_core.__file__))
    package = directory / "pygo_plugin"
    shutil.copytree(source.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for library in PACKAGE.glob("libpygo*.so"):
        (package / library.name).symlink_to(library)
    core = source.read_bytes()
    assert len(name) == len(other)
    assert b"\0" + name + b"\0" in core
    (package / source.name).write_bytes(core.replace(b"\0" + name + b"\0", b"\0" + other + b"\0"))
    return directory


def file_of(library: bytes) -> bytes:
    """The name by which the core asks for the library."""
    core = Path(str(_core.__file__)).read_bytes()
    start = core.index(b"\0" + library + b".") + 1
    return core[start : core.index(b"\0", start)]


# Prints what each of |uses| raises.
USE = """
from pygo_plugin import LibraryError

for use in uses:
    try:
        use()
    except LibraryError as error:
        print(error)
    else:
        raise SystemExit("the library was loaded")
print(loaded())
"""

USE_GRPC = f"""
from pygo_plugin import rpc

uses = (lambda: rpc.insecure_channel("unix:/nowhere"), lambda: rpc.server(max_workers=2))
{USE}
"""

USE_OPENSSL = f"""
from pygo_plugin import SecureConfig, rpc
from pygo_plugin._base.core import _core

uses = (
    lambda: client(auto_mtls=True).start(),
    lambda: SecureConfig(bytes(32), hash="sha256"),
    lambda: rpc.ssl_channel_credentials(b"roots"),
    lambda: _core.TLS(certificate=b"certificate", private_key=b"key"),
    lambda: _core.TLS(certificate=b"certificate", private_key=b"key", password="password"),
)
{USE}
"""


@pytest.mark.parametrize(
    ("whose", "library", "statements"),
    [
        ("gRPC", GRPC.encode(), LAUNCH + USE_GRPC),
        ("OpenSSL", OPENSSL.encode(), LAUNCH + USE_OPENSSL),
    ],
    ids=["gRPC", "OpenSSL"],
)
def test_a_missing_library_is_an_error_of_what_uses_it(
    whose: str, library: bytes, statements: str, tmp_path: Path
) -> None:
    name = file_of(library)
    absent = name.replace(library, b"libnone".ljust(len(library), b"_")[: len(library)])
    *lines, found = run(statements, copy_with(tmp_path, name, absent))
    file = absent.decode()
    assert lines
    assert found == "[]"
    for line in lines:
        assert f"{whose}'s library cannot be loaded: {file}: " in line
        if library.startswith(b"libpygo"):
            assert f"{file} is a part of pygo_plugin, which has to be installed again" in line
        else:
            assert f"install the package that has {file}, or build pygo_plugin again" in line


def test_another_version_of_a_library_is_an_error_of_what_uses_it(tmp_path: Path) -> None:
    path = copy_with(tmp_path, b"grpc_server_create", b"grpc_server_kreate")
    first, second, _ = run(USE_GRPC, path)
    assert f"{file_of(GRPC.encode()).decode()} has no function grpc_server_kreate" in first
    assert first == second


# ---- Plugins over net/rpc ------------------------------------------------------------------------

# Serves, with an argument: launches this script as a plugin, and calls it.
OVER_NETRPC = f"""{PRELUDE}
from pygo_plugin import Client, ClientConfig, Cmd, HandshakeConfig, ServeConfig, netrpc, serve

class Lister:
    def __init__(self, broker):
        pass

    def libraries(self) -> str:
        return str(loaded())

HANDSHAKE = HandshakeConfig(1, "KEY", "value")
PLUGINS = {{"lister": netrpc.plugin(Lister)}}

if sys.argv[1:] == ["serve"]:
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS))
else:
    config = ClientConfig(
        handshake_config=HANDSHAKE,
        plugins=PLUGINS,
        allowed_protocols=["netrpc"],
        cmd=Cmd([sys.executable, __file__, "serve"]),
    )
    with Client(config) as client:
        print(client.dispense("lister").libraries())
        print(client.ping())
    print(loaded())
"""


def test_host_and_plugin_over_netrpc_load_neither_grpc_nor_openssl(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(OVER_NETRPC, encoding="utf-8")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "", "[]"]
