"""Who may connect: the modes of sockets and of their directories, and groups."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_runner import Own

from pygo_plugin import (
    BrokerError,
    Client,
    ClientConfig,
    Cmd,
    ConfigError,
    ConfigTypeError,
    ReattachConfig,
    StartError,
    TLSError,
    _core,
)

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0
NOBODY = 65534
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
    """Files that the plugin makes later have their usual modes."""
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


@pytest.mark.parametrize("temporary", ["/nowhere", "/proc"])
def test_no_directory_for_the_hosts_own_sockets(
    peers: Any, make_client: Any, socket_dir: Path, monkeypatch: Any, temporary: str
) -> None:
    """The directory cannot be made, as on a full disk."""
    command = Cmd(peers.plugin("python"))
    command.env = [f"TMPDIR={socket_dir}"]
    monkeypatch.setenv("TMPDIR", temporary)
    client = make_client(command, broker_multiplex=True)
    with pytest.raises(StartError, match=f"no directory for sockets can be made in {temporary}"):
        client.start()
    client = make_client(command)
    client.start()
    with pytest.raises(
        BrokerError, match=f"pygo_plugin_peer.py: connection 1 cannot be accepted: .*{temporary}"
    ):
        client.broker.accept(client.broker.next_id())
    client = make_client(runner=Own(peers.plugin("python")))
    with pytest.raises(StartError, match=f"no directory for sockets can be made in {temporary}"):
        client.start()


def test_what_the_host_serves(peers: Any, make_client: Any, base: Path) -> None:
    client = make_client(peers.plugin("python"), unix_socket_dir=base)
    client.start()
    path = Path(client.broker.accept(client.broker.next_id())._place.path)
    assert path.parent == base
    assert mode(path) == 0o600
    client.kill()
    assert list(base.iterdir()) == []

    client = make_client(peers.plugin("python"), unix_socket_group=OWN)
    client.start()
    assert mode(client.broker.accept(client.broker.next_id())._place.path) == 0o660


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
    path = Path(client.broker.accept(client.broker.next_id())._place.path)
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


# Puts links to a file, or to its directory, in the place of everything that appears in a directory.
SWAPPER = """
import os, signal, stat, sys
base, secret = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
os.write(1, b"ready")
count = 0
while True:
    for directory in [base, *(os.path.join(base, name) for name in os.listdir(base))]:
        try:
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                mode = os.lstat(path).st_mode
                if stat.S_ISSOCK(mode):
                    os.unlink(path)
                    os.symlink(secret, path)
                elif stat.S_ISDIR(mode) and name.startswith("plugin-dir-"):
                    count += 1
                    os.rename(path, os.path.join(directory, f"gone{count}"))
                    os.symlink(os.path.dirname(secret), path)
        except OSError:
            pass
"""


@pytest.fixture
def secret(base: Path, tmp_path: Path) -> Iterator[Path]:
    """A file that must stay this user's alone, while another process swaps it into `base`."""
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(0o600)
    group = NOBODY if os.geteuid() == 0 else os.getegid()
    base.parent.chmod(0o755)
    os.chown(base, -1, group)
    base.chmod(0o770)
    command = [sys.executable, "-c", SWAPPER, str(base), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.read(5) == b"ready"
        yield path
        assert swapper.poll() is None
        swapper.kill()
    assert mode(path) == 0o600
    assert path.stat().st_gid == os.getegid()
    assert mode(tmp_path) == 0o700


def test_a_swapped_file_does_not_get_the_mode(base: Path, secret: Path) -> None:
    group = str(base.stat().st_gid)
    for _ in range(300):
        place = None
        with contextlib.suppress(OSError):  # as when all of it has been taken away
            place = _core.SocketPlace(str(base), group)
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(place.bind)
                one.listen()
                place.publish()
        if place is not None:
            place.remove()


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
