"""Who may connect: the modes of sockets and of their directories, and groups."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    Client,
    ClientConfig,
    ConfigError,
    ConfigTypeError,
    ReattachConfig,
    StartError,
    TLSError,
)

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 20.0
OWN = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture(params=["core", "aio", "grpcio", "go"])
def command(request: pytest.FixtureRequest, peers: Any) -> list[str]:
    if request.param == "go":
        return list(peers.plugin("go"))
    return list(peers.plugin("python", "--server", request.param))


@pytest.fixture
def base(socket_dir: Path) -> Path:
    """A directory for the directories of sockets."""
    path = socket_dir / "base"
    path.mkdir(mode=0o755)
    return path


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def put(client: Any) -> None:
    import kv_pb2

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)


# ---- A plugin's own doing ------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o000])
@pytest.mark.parametrize("server", ["core", "aio", "grpcio"])
def test_only_the_user_may_connect(peers: Any, make_client: Any, server: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        client = make_client(peers.plugin("python", "--server", server))
        assert mode(client.start().string()) == 0o600
    finally:
        os.umask(before)
    put(client)


def test_the_umask_is_what_it_was(peers: Any, make_client: Any, tmp_path: Path) -> None:
    """What the plugin's author makes afterwards has the modes that it would have had."""
    script = f"""
import os
from pygo_plugin import *
import pygo_plugin_peer
server = Server(ServeConfig(handshake_config=pygo_plugin_peer.HANDSHAKE))
server.serve()
open({str(tmp_path / "made")!r}, "w").close()
server._wait()
"""
    path = tmp_path / "plugin.py"
    path.write_text(script)
    before = os.umask(0o002)
    try:
        client = make_client([peers.plugin("python")[0], path])
        client.start()
    finally:
        os.umask(before)
    client.kill()
    assert mode(tmp_path / "made") == 0o664


def test_tcp_is_for_this_machine_alone(peers: Any, make_client: Any) -> None:
    client = make_client(peers.plugin("python", "--network", "tcp"))
    host, port = client.start().string().split(":")
    assert host == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(DEADLINE)
        assert other.connect_ex(("127.0.0.2", int(port))) != 0  # loopback, but another address


# ---- unix_socket_dir -----------------------------------------------------------------------------


def test_a_private_directory(command: list[str], make_client: Any, base: Path) -> None:
    client = make_client(command, unix_socket_dir=base)
    path = Path(client.start().string())
    assert path.parent.parent == base
    assert path.parent.name.startswith("plugin-dir")
    assert mode(path.parent) == 0o700
    put(client)
    client.kill()
    assert list(base.iterdir()) == []


def test_it_goes_with_the_plugin_however_that_ends(
    peers: Any, make_client: Any, base: Path
) -> None:
    client = make_client(peers.plugin("go"), unix_socket_dir=base)
    client.start()
    os.kill(client.pid, 9)
    client.kill()
    assert list(base.iterdir()) == []

    client = make_client(peers.bad("exit", "-status", "3"), unix_socket_dir=base)
    with pytest.raises(StartError):
        client.start()
    assert list(base.iterdir()) == []

    client = make_client(peers.plugin("go"), unix_socket_dir=base, auto_mtls=True)
    put(client)
    client.kill()
    assert list(base.iterdir()) == []

    client = make_client(peers.plugin("grpcio"), unix_socket_dir=base, auto_mtls=True)
    with pytest.raises(TLSError):
        client.start()
    assert list(base.iterdir()) == []


def test_a_directory_that_is_not_there(peers: Any, make_client: Any) -> None:
    client = make_client(peers.plugin("python"), unix_socket_dir="/nowhere")
    with pytest.raises(StartError, match="no directory for sockets can be made in /nowhere: No"):
        client.start()


def test_what_the_host_serves(peers: Any, make_client: Any, base: Path) -> None:
    client = make_client(peers.plugin("python"), unix_socket_dir=base)
    client.start()
    path = Path(client.broker.accept(client.broker.next_id())._path)
    assert path.parent == base
    assert mode(path) == 0o600
    client.kill()
    assert list(base.iterdir()) == []

    client = make_client(peers.plugin("python"), unix_socket_group=OWN)
    client.start()
    assert mode(client.broker.accept(client.broker.next_id())._path) == 0o660


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_everything_over_one_socket_needs_no_other_directory(
    peers: Any,
    make_client: Any,
    base: Path,
    plugin: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    client = make_client(peers.plugin(plugin), unix_socket_dir=base, broker_multiplex=True)
    client.start()
    put(client)
    path = Path(client.broker.accept(client.broker.next_id())._path)
    assert path.parent.parent == base
    assert mode(path.parent) == 0o700
    client.kill()
    assert list(base.iterdir()) == []


# ---- unix_socket_group ---------------------------------------------------------------------------


@pytest.mark.parametrize("group", [OWN, os.getegid(), str(os.getegid())])
def test_a_group_by_name_and_number(
    command: list[str], make_client: Any, base: Path, group: str | int
) -> None:
    client = make_client(command, unix_socket_dir=base, unix_socket_group=group)
    path = Path(client.start().string())
    assert mode(path) == 0o660
    assert mode(path.parent) == 0o770
    assert path.stat().st_gid == path.parent.stat().st_gid == os.getegid()
    put(client)


def test_a_group_without_a_directory(command: list[str], make_client: Any) -> None:
    client = make_client(command, unix_socket_group=OWN)
    assert mode(client.start().string()) == 0o660


def test_a_group_from_a_go_host(peers: Any, go_host: Any) -> None:
    command = peers.plugin("python")
    started = go_host.do("start", cmd=command, unix_socket_group=OWN)
    assert mode(started["address"]) == 0o660
    go_host.do("kill")


def test_no_such_group(peers: Any, make_client: Any, base: Path) -> None:
    client = make_client(
        peers.plugin("python"), unix_socket_dir=base, unix_socket_group="no-such-group"
    )
    with pytest.raises(ConfigError, match="there is no group no-such-group"):
        client.start()
    assert list(base.iterdir()) == []
    client = make_client(peers.plugin("python"), unix_socket_group="no-such-group")
    with pytest.raises(StartError, match="there is no group no-such-group"):
        client.start()


# ---- Options -------------------------------------------------------------------------------------


def test_wrong_options(handshake: Any, plugins: Any) -> None:
    with pytest.raises(ConfigTypeError, match="unix_socket_group must be the name or the number"):
        ClientConfig(unix_socket_group=True)
    with pytest.raises(ConfigError, match="unix_socket_group must not be negative"):
        ClientConfig(unix_socket_group=-1)
    with pytest.raises(ConfigError, match=r"unix_socket_group .* but is empty"):
        ClientConfig(unix_socket_group="")
    with pytest.raises(ConfigTypeError, match="unix_socket_dir must be a str or a path"):
        ClientConfig(unix_socket_dir=3)  # type: ignore[arg-type]
    assert ClientConfig(unix_socket_group=7).unix_socket_group == "7"
    reattach = ReattachConfig("grpc", "unix", "/nowhere")
    for options in ({"unix_socket_dir": "/tmp"}, {"unix_socket_group": 0}):
        client = Client(
            reattach_config=reattach, handshake_config=handshake, plugins=plugins, **options
        )
        with pytest.raises(ConfigError, match="do not go with a reattach_config"):
            client.start()
