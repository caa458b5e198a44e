"""Brokered connections in each cell: who hosts, who serves, over what, secured or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import broker_plugin
import exercise
import pytest
from broker_plugin import Test, add
from brokered import (
    HOW,
    OPTIONS,
    TIMEOUT,
    Census,
    accept_hanging,
    at_once,
    call_back,
    call_dialled,
    census_of,
    exercise_both_ways,
    target,
)
from processes import has_ended

from pygo_plugin import RpcError

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

each_way = pytest.mark.parametrize("how", HOW)
each_plugin = pytest.mark.parametrize("plugin", ["python", "go"])
each_network = pytest.mark.parametrize("network", ["unix", "tcp"])
CALLS = {"plugin dials": call_back, "host dials": call_dialled}
OPS = {"plugin dials": "call_back", "host dials": "call_dialled"}  # of the Go host
each_direction = pytest.mark.parametrize("direction", CALLS)


@pytest.fixture
def connect(make_client: Any, peers: Any) -> Any:
    """Starts a plugin, and gives its client, its broker and its stub."""

    def connect(plugin: str, network: str, how: str, *arguments: str) -> tuple[Any, Any, Any]:
        command = target(peers, plugin, network, "broker_multiplex" in HOW[how], *arguments)
        given = {"cmd": command} if isinstance(command, list) else {"runner": command}
        client = make_client(**given, **HOW[how], **OPTIONS)
        broker, test = client.dispense("test")
        return client, broker, test

    return connect


@pytest.fixture
def go_client(go_host: Any, peers: Any) -> Any:
    """Has the Go host start the Python plugin."""

    def start(network: str, how: str, *arguments: str) -> Any:
        command = target(peers, "python", network, False, *arguments)
        options = {name.replace("broker_", ""): value for name, value in HOW[how].items()}
        return go_host.do("start", cmd=command, **options)

    return start


# ---- Every kind of call --------------------------------------------------------------------------


@each_way
@each_network
@each_plugin
def test_every_kind_of_call(plugin: str, network: str, how: str, connect: Any) -> None:
    _, broker, test = connect(plugin, network, how)
    exercise_both_ways(broker, test)


@each_way
@each_network
def test_every_kind_of_call_with_a_go_host(
    network: str, how: str, go_client: Any, go_host: Any
) -> None:
    go_client(network, how)
    assert go_host.do("exercise") == {
        "ok": True,
        "plugin": exercise.ALL,
        "host": exercise.ALL,
    }
    assert not go_host.do("kill")["forced"]


# ---- Many ----------------------------------------------------------------------------------------


def rounds(how: str, direction: str) -> int:
    """How many rounds to run. With TLS fewer: its handshake takes ten times as long as the rest."""
    return 30 if "mtls" in how else {"plugin dials": 1000, "host dials": 300}[direction]


@each_direction
@each_way
@each_plugin
def test_many_in_sequence_leave_nothing(
    plugin: str, how: str, direction: str, connect: Any, eventually: Any, socket_dir: Path
) -> None:
    _, broker, test = connect(plugin, "unix", how)
    for _ in range(30):
        CALLS[direction](broker, test)
    ours, theirs = Census(broker_plugin.resources), census_of(test)
    for _ in range(rounds(how, direction)):
        CALLS[direction](broker, test)
    eventually(ours.same, "the host's return to what it was")
    eventually(theirs.same, "the plugin's return to what it was")
    eventually(lambda: len(sockets(socket_dir)) <= 3, "the end of the sockets")


def sockets(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_socket()]


@each_direction
@each_way
def test_many_in_sequence_with_a_go_host(
    how: str, direction: str, go_client: Any, go_host: Any, eventually: Any
) -> None:
    go_client("unix", how)

    def plugins() -> list[int]:
        answer = go_host.do("call_test", method="Resources")["text"]
        return [int(number) for number in answer.split()]

    go_host.do(OPS[direction], count=30)
    ours = Census(lambda: [go_host.do("descriptors")["descriptors"]])
    theirs = Census(plugins)
    go_host.do(OPS[direction], count=rounds(how, direction))
    eventually(ours.same, "the host's return to what it was")
    eventually(theirs.same, "the plugin's return to what it was")
    assert not go_host.do("kill")["forced"]


@each_direction
@each_way
@each_plugin
def test_64_at_once(plugin: str, how: str, direction: str, connect: Any) -> None:
    _, broker, test = connect(plugin, "unix", how)
    at_once(64, lambda: CALLS[direction](broker, test))


@each_direction
@each_way
def test_64_at_once_with_a_go_host(how: str, direction: str, go_client: Any, go_host: Any) -> None:
    go_client("unix", how)
    go_host.do(OPS[direction], count=64, parallel=64)
    assert not go_host.do("kill")["forced"]


# ---- Nested --------------------------------------------------------------------------------------


def nest(broker: Any) -> Any:
    def register(server: Any) -> None:
        def answer(request: bytes) -> bytes:
            with broker.dial(int(request)) as channel:
                reply: bytes = Test(channel).Echo(b"host", timeout=TIMEOUT)
            return b"host: " + reply

        add(server, Nest=answer)

    return register


@each_way
def test_nested_callbacks_of_a_go_plugin(how: str, connect: Any) -> None:
    _, broker, test = connect("go", "unix", how)
    for _ in range(5):
        with broker.serve(nest(broker), max_workers=1) as service_id:
            reply = test.Nest(b"%d" % service_id, timeout=TIMEOUT)
            assert reply == b"host: innermost: host"


@each_way
@pytest.mark.parametrize("kind", [[], ["--aio"]], ids=["threads", "asyncio"])
def test_nested_callbacks_with_a_go_host(
    kind: list[str], how: str, go_client: Any, go_host: Any
) -> None:
    go_client("unix", how, "--max-workers", "1", *kind)
    go_host.do("nest", count=5)
    assert not go_host.do("kill")["forced"]


# ---- Death in the middle of a callback -----------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "multiplexed"])
@each_plugin
def test_the_plugin_is_killed_in_mid_callback(
    plugin: str, how: str, connect: Any, eventually: Any, socket_dir: Path
) -> None:
    client, broker, test = connect(plugin, "unix", how)
    server, entered, ended = accept_hanging(broker)
    call = test.Hang.future(b"%d" % server.id)
    assert entered.wait(TIMEOUT)
    test.Serve(b"", timeout=TIMEOUT)  # leaves a socket behind
    os.kill(client.pid, signal.SIGKILL)
    assert ended.wait(TIMEOUT)
    with pytest.raises(RpcError):
        call.result(TIMEOUT)
    assert server.wait_for_termination(TIMEOUT) is False  # without a call of stop()
    eventually(client.exited, "the news of the plugin's end")
    client.kill()
    assert list(socket_dir.iterdir()) == []


@pytest.mark.parametrize("how", ["plain", "multiplexed", "multiplexed mtls"])
def test_a_go_host_is_killed_in_mid_callback(
    how: str, go_client: Any, go_host: Any, eventually: Any, socket_dir: Path
) -> None:
    """Our plugin exits and removes its sockets."""
    pid = go_client("unix", how)["pid"]
    go_host.do("call_test", method="Serve")
    go_host.do("hang_in_host")
    before = {path for path in socket_dir.rglob("*") if path.is_socket()}
    assert before
    go_host.kill()
    eventually(lambda: has_ended(pid), "the plugin's end")
    for path in socket_dir.rglob("*"):  # the Go host's own, which it could not remove
        if path.is_socket() and path.parent == socket_dir:
            path.unlink()
    assert list(socket_dir.iterdir()) == []
