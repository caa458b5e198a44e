"""Directories whose paths mean something to gRPC or to the handshake line, and long ones."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broker_plugin
import pytest
from broker_plugin import Test
from brokered import HOW, OPTIONS, TIMEOUT, call_back, call_dialled

from pygo_plugin import Client, Cmd, HandshakeError, ReattachConfig, rpc

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

# Names of directories, and how long paths are to be.
NAMES: dict[str, bytes | int] = {
    "comma": b"a,b",
    "percent slash": b"a%2Fb",
    "percent space": b"a%20b",
    "percent": b"100%",
    "space": b"a b",
    "hash": b"a#b",
    "question": b"a?b=c&d",
    "bar": b"a|b",
    "newline": b"a\nb",
    "accents": "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(),
    "not utf-8": b"\xff\xfe",
    "68": 68,
    "74": 74,
    "84": 84,
    "91": 91,
    "108": 108,
    "200": 200,
}
TOO_MUCH_FOR_A_HANDSHAKE = {"bar", "newline", "not utf-8", "91", "108", "200"}
TOO_MUCH_FOR_GO = {"not utf-8"}  # the Go host's requests are JSON

each_name = pytest.mark.parametrize("name", NAMES)
each_way = pytest.mark.parametrize("how", HOW)
each_plugin = pytest.mark.parametrize("plugin", ["python", "go"])


@pytest.fixture
def odd(name: str, socket_dir: Path) -> Iterator[str]:
    """A directory with an unusual name or length."""
    wanted = NAMES[name]
    base = os.fsencode(socket_dir)
    if isinstance(wanted, int):
        wanted = b"x" * (wanted - len(base) - 1)
    path = os.path.join(base, wanted)
    os.mkdir(path)
    yield os.fsdecode(path)
    assert os.listdir(path) == []


def command(plugin: str, peers: Any, *arguments: str) -> list[str]:
    if plugin == "python":
        return [sys.executable, broker_plugin.__file__, *arguments]
    return list(peers.plugin("go", *arguments))


def use(client: Client) -> None:
    """A call, and one over a brokered connection in each direction."""
    broker, test = client.dispense("test")
    assert client.ping(TIMEOUT) == ""
    call_back(broker, test)
    call_dialled(broker, test)


# ---- The temporary directory of both sides -------------------------------------------------------


@each_plugin
@each_way
@each_name
def test_temporary_directory(
    odd: str, name: str, how: str, plugin: str, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", odd)
    with Client(command(plugin, peers), **HOW[how], **OPTIONS) as client:
        path = client.start().string()
        use(client)
        assert (os.path.dirname(path) == odd) == (
            name not in TOO_MUCH_FOR_A_HANDSHAKE
            and not (plugin == "python" and "multiplexed" in how)
        )
    assert not os.path.exists(path)
    assert os.path.dirname(path) == odd or not os.path.exists(os.path.dirname(path))


@each_plugin
@each_name
def test_the_targets_are_of_use(
    odd: str, plugin: str, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gRPC library and another client can use the targets."""
    import grpc

    monkeypatch.setenv("TMPDIR", odd)
    with Client(command(plugin, peers), **OPTIONS) as client:
        client.start()
        for module in (grpc, rpc):
            with module.insecure_channel(client.conn_endpoint()) as channel:
                number = Test(channel).Serve(b"", timeout=TIMEOUT)
                assert int(number)
        text = client.reattach_config().to_json()
        again = Client(reattach_config=ReattachConfig.from_json(text), **OPTIONS)
        assert again.ping(TIMEOUT) == ""
        again.kill()


@each_name
def test_asyncio(odd: str, peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pygo_plugin import aio

    async def main() -> None:
        async with aio.Client(command("python", peers), **OPTIONS) as client:
            broker, test = await client.dispense("test")
            number = await test.Serve(b"", timeout=TIMEOUT)
            channel = await broker.dial(int(number))
            assert await Test(channel).Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
            await channel.close()

    monkeypatch.setenv("TMPDIR", odd)
    asyncio.run(main())


@pytest.mark.parametrize("how", ["plain", "multiplexed"])
@each_name
def test_under_a_go_host(odd: str, name: str, how: str, go_host: Any, peers: Any) -> None:
    if name in TOO_MUCH_FOR_GO:
        odd = os.path.dirname(odd)
    options = {key.replace("broker_", ""): value for key, value in HOW[how].items()}
    go_host.do("start", cmd=command("python", peers), env=[f"TMPDIR={odd}"], **options)
    go_host.do("call_back", count=1)
    go_host.do("call_dialled", count=1)
    assert not go_host.do("kill")["forced"]


# ---- Directories that the host names -------------------------------------------------------------


@each_plugin
@pytest.mark.parametrize("how", ["plain", "multiplexed"])
@each_name
def test_unix_socket_dir(odd: str, how: str, plugin: str, peers: Any) -> None:
    with Client(
        command(plugin, peers),
        unix_socket_dir=odd,
        unix_socket_group=os.getegid(),
        **HOW[how],
        **OPTIONS,
    ) as client:
        path = client.start().string()
        use(client)
    assert not os.path.exists(os.path.dirname(path))


@each_plugin
@each_name
def test_variable_of_the_plugin(odd: str, plugin: str, peers: Any) -> None:
    given = Cmd(command(plugin, peers))
    given.env = [f"PLUGIN_UNIX_SOCKET_DIR={odd}"]
    with Client(given, **OPTIONS) as client:
        use(client)


# ---- Relative directories ------------------------------------------------------------------------


@each_plugin
@each_way
def test_relative_to_the_plugins_working_directory(
    how: str, plugin: str, peers: Any, socket_dir: Path
) -> None:
    (socket_dir / "work" / "tmp").mkdir(parents=True)
    given = Cmd(command(plugin, peers))
    given.dir = str(socket_dir / "work")
    given.env = ["TMPDIR=tmp"]
    with Client(given, **HOW[how], **OPTIONS) as client:
        path = client.start().string()
        use(client)
        assert path.startswith(str(socket_dir / "work" / "tmp"))
        os.kill(client.pid, 9)
    assert list((socket_dir / "work" / "tmp").iterdir()) == []


def test_relative_to_the_hosts_working_directory(
    peers: Any, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's working directory is not the plugin's, and may change."""
    (socket_dir / "tmp").mkdir()
    (socket_dir / "work").mkdir()
    monkeypatch.chdir(socket_dir)
    monkeypatch.setenv("TMPDIR", "tmp")
    given = Cmd(command("python", peers))
    given.dir = "work"
    given.env = [f"TMPDIR={socket_dir}"]
    with Client(given, **OPTIONS) as client:
        broker, test = client.dispense("test")
        monkeypatch.chdir("/")
        call_back(broker, test)
        call_dialled(broker, test)


# ---- What is said in the handshake ---------------------------------------------------------------


def says(address: str) -> list[str]:
    line = b"1|1|unix|" + os.fsencode(address) + b"|grpc\n"
    return [sys.executable, "-c", f"import os, signal; os.write(1, {line!r}); signal.pause()"]


@pytest.mark.parametrize("address", ["/tmp/\udcff\udcfe", "\udcff", "/a\udc80,b"])
def test_a_garbled_address(address: str, make_client: Any) -> None:
    client = make_client(says(address))
    with pytest.raises(HandshakeError, match=r"is not UTF-8|cannot be reached") as caught:
        client.start()
    assert os.fsencode(address) in caught.value.line
    assert client.exited() or client.pid == -1 or client.exit_status is not None


def test_a_comma_at_which_nothing_is(make_client: Any) -> None:
    client = make_client(says("/nowhere/a,b"))
    with pytest.raises(HandshakeError, match="cannot be reached: cannot connect to /nowhere/a,b"):
        client.start()


def test_an_abstract_name_with_a_comma(make_client: Any) -> None:
    client = make_client(says("@a,b"))
    with pytest.raises(HandshakeError, match="gRPC cannot connect to the abstract socket"):
        client.start()


def test_a_path_of_bytes(make_client: Any, socket_dir: Path) -> None:
    """The path of a socket need not be valid text."""
    path = os.path.join(str(socket_dir), "\udcff")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        client = make_client(says(path))
        assert client.start().string() == path
        client.kill()
    os.unlink(path)
