"""Which shared libraries a process loads, and when; and what happens if one is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pygo_plugin import _core

ROOT = Path(__file__).resolve().parents[2]

# gRPC's library and those that only gRPC needs.
OF_GRPC = ("libgrpc", "libgpr", "libabsl", "libupb", "libre2", "libcares", "libstdc++")

PRELUDE = f"""
import sys

def loaded():
    with open("/proc/self/maps") as maps:
        files = {{line.rstrip("\\n").rpartition("/")[2] for line in maps if "/" in line}}
    return sorted(name for name in files if name.startswith({OF_GRPC!r}))

"""

LAUNCH = """
from pygo_plugin import Client, ClientConfig, Cmd, HandshakeConfig, HandshakeError, Plugin

config = ClientConfig(
    handshake_config=HandshakeConfig(1, "KEY", "value"),
    plugins={"x": Plugin()},
    cmd=Cmd([sys.executable, "-S", "-c", "print('no handshake')"]),
)
try:
    Client(config).start()
except HandshakeError:
    pass
else:
    raise SystemExit("the plugin has started")
"""


def run(statements: str, path: Path = ROOT) -> str:
    """What a new interpreter prints that runs the statements with the package in |path|."""
    command = [sys.executable, "-c", PRELUDE + f"sys.path.insert(0, {str(path)!r})\n" + statements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statements",
    [
        "import pygo_plugin._core",
        "from pygo_plugin import *",
        "from pygo_plugin import Client, Server, serve, cleanup_clients; cleanup_clients()",
        "from pygo_plugin import aio, broker, rpc, testing; aio.Client, rpc.server",
        LAUNCH,
        "import os\nimport pygo_plugin.client\nif os.fork() == 0: os._exit(0)\nos.wait()",
    ],
    ids=["core", "all names", "client and server", "modules", "failed launch", "fork"],
)
def test_grpc_is_not_loaded(statements: str) -> None:
    assert run(f"{statements}\nprint(loaded())") == "[]"


@pytest.mark.parametrize(
    "statements",
    [
        "channel = rpc.insecure_channel('unix:/nowhere')",
        "server = rpc.server(max_workers=2)",
        "credentials = rpc.access_token_call_credentials('token')",
    ],
)
def test_grpc_is_loaded_when_it_is_used(statements: str) -> None:
    before, _, after = run(
        f"from pygo_plugin import rpc\nprint(loaded(), end=';')\n{statements}\nprint(loaded())"
    ).partition(";")
    assert before == "[]"
    assert "libgrpc" in after


# ---- A library that is missing -------------------------------------------------------------------


def copy_with(directory: Path, name: bytes, other: bytes) -> Path:
    """Copy the package to the directory, with another string in place of |name| in its core."""
    source = Path(str(_core.__file__))
    package = directory / "pygo_plugin"
    shutil.copytree(source.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    core = source.read_bytes()
    assert len(name) == len(other)
    assert b"\0" + name + b"\0" in core
    (package / source.name).write_bytes(core.replace(b"\0" + name + b"\0", b"\0" + other + b"\0"))
    return directory


def library_of_grpc() -> bytes:
    """By what name the core asks for it."""
    core = Path(str(_core.__file__)).read_bytes()
    start = core.index(b"\0libgrpc") + 1
    return core[start : core.index(b"\0", start)]


USE = """
import pygo_plugin
from pygo_plugin import LibraryError, PluginError, rpc

for use in (lambda: rpc.insecure_channel("unix:/nowhere"), lambda: rpc.server(max_workers=2)):
    try:
        use()
    except LibraryError as error:
        print(error)
    else:
        raise SystemExit("gRPC was loaded")
print(loaded())
"""


def test_a_missing_library_is_an_error_of_what_uses_it(tmp_path: Path) -> None:
    name = library_of_grpc()
    other = b"libnone" + name[len(b"libgrpc") :]
    path = copy_with(tmp_path, name, other)
    lines = run(LAUNCH + USE, path).splitlines()
    file = other.decode()
    assert len(lines) == 3
    assert lines[0] == lines[1]
    assert lines[0].startswith(f"gRPC's library cannot be loaded: {file}: ")
    assert f"install the package that has {file}, or build pygo_plugin again" in lines[0]
    assert lines[2] == "[]"


def test_another_version_of_a_library_is_an_error_of_what_uses_it(tmp_path: Path) -> None:
    path = copy_with(tmp_path, b"grpc_server_create", b"grpc_server_kreate")
    lines = run(USE, path).splitlines()
    assert len(lines) == 3
    assert f"{library_of_grpc().decode()} has no function grpc_server_kreate" in lines[0]
    assert lines[0] == lines[1]
