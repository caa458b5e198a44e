"""The channel that `dispense` gives: a view of a plugin's one connection, and what becomes of its
calls when the plugin ends. What a channel is to grpcio's users is in tests/conformance.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stage import DEADLINE, Code, hang, raised

from pygo_plugin import Client, ClosedError


@pytest.fixture(scope="module")
def running(peers: Any) -> Iterator[Callable[[str], Client]]:
    """One plugin of each kind, for all tests that do not end it."""
    import pygo_plugin_peer

    clients: dict[str, Client] = {}

    def get(kind: str) -> Client:
        if kind not in clients:
            clients[kind] = Client(
                peers.plugin(kind),
                handshake_config=pygo_plugin_peer.HANDSHAKE,
                plugins=pygo_plugin_peer.plugins(),
            )
            clients[kind].start()
        return clients[kind]

    yield get
    for client in clients.values():
        client.kill()


@pytest.fixture(params=["python", "grpcio"])
def client(running: Any, request: pytest.FixtureRequest) -> Client:
    found: Client = running(request.param)
    return found


@pytest.fixture
def pb() -> Any:
    import probe_pb2

    return probe_pb2


# ---- Calls --------------------------------------------------------------------------------------


def test_replies_are_for_one_thread_at_a_time(client: Client, pb: Any) -> None:
    refused: list[str] = []
    read: list[bytes] = []
    first, more = threading.Event(), threading.Event()

    def requests() -> Iterator[Any]:
        assert more.wait(DEADLINE)
        yield pb.ChatMessage(payload=b"x")

    def receive() -> None:
        try:
            read.append(next(chat).payload)
        except ValueError as error:
            refused.append(str(error))
            first.set()

    _, probe = client.dispense("probe")
    chat = probe.Chat(requests(), timeout=DEADLINE)
    readers = [threading.Thread(target=receive) for _ in range(2)]
    for reader in readers:
        reader.start()
    assert first.wait(DEADLINE)  # the other one waits for a reply
    more.set()
    for reader in readers:
        reader.join(DEADLINE)
    assert read == [b"x"]
    assert len(refused) == 1
    assert "another thread" in refused[0]
    assert list(chat) == []


# ---- Channels -----------------------------------------------------------------------------------


def test_grpcio_may_be_imported_late(running: Any) -> None:
    """A plugin class may import grpcio's stubs only when it is asked for them."""
    script = f"""
    import sys
    from pygo_plugin._grpc import calls, channel as channels, server

    channel = channels.Channel({running("python").conn_endpoint()!r})
    call = channel.unary_stream("/probe.Probe/Count")(b"")
    assert "grpc" not in sys.modules
    import grpc
    assert isinstance(channel, grpc.Channel)
    assert isinstance(call, grpc.Call)
    assert isinstance(call, grpc.RpcContext)
    assert type(channel) is channels.Channel
    assert channel.__class__ is channels.Channel
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


@pytest.mark.parametrize("size", [0, 1, 16384, 5 << 20])
def test_messages_of_any_size(client: Client, pb: Any, size: int) -> None:
    """Messages may be larger than the 4 MiB that gRPC accepts by default."""
    channel, probe = client.dispense("probe")
    payload = b"\xa5" * size
    assert probe.Echo(pb.EchoRequest(payload=payload), timeout=DEADLINE).payload == payload
    channel.close()


def test_close_cancels_its_own_calls_alone(client: Client, pb: Any, eventually: Any) -> None:
    first, first_probe = client.dispense("probe")
    second, second_probe = client.dispense("probe")
    mine = hang(first_probe, eventually)
    stream = first_probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    other = hang(second_probe, eventually)
    first.close()
    first.close()
    assert mine.code() is Code.CANCELLED
    assert "Channel closed!" in mine.details()  # gRPC 1.85 puts more around it
    assert raised(lambda: next(stream)).code() is Code.CANCELLED
    assert other.running() is True
    for call in (first_probe.Echo, first_probe.Echo.future, first_probe.Count):
        with pytest.raises(ClosedError, match="closed"):
            call(pb.EchoRequest())
    other.cancel()
    second.close()
    third, third_probe = client.dispense("probe")
    assert third_probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
    third.close()


# ---- The end of a plugin ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["python", "grpcio"])
def test_calls_on_a_killed_client(make_client: Any, peers: Any, pb: Any, kind: str) -> None:
    client = make_client(peers.plugin(kind))
    channel, probe = client.dispense("probe")
    probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
    client.kill()
    error = raised(lambda: probe.Echo(pb.EchoRequest(), timeout=DEADLINE))
    assert error.code() is Code.UNAVAILABLE
    assert raised(lambda: list(probe.Count(pb.CountRequest()))).code() is Code.UNAVAILABLE
    assert raised(lambda: probe.Sum(iter(()))).code() is Code.UNAVAILABLE
    channel.close()
    for use in (client.start, client.new_channel, lambda: client.dispense("probe")):
        with pytest.raises(ClosedError, match="has been killed") as caught:
            use()
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["python", "grpcio"])
def test_kill_ends_running_calls(
    make_client: Any, peers: Any, pb: Any, eventually: Any, kind: str
) -> None:
    client = make_client(peers.plugin(kind))
    _, probe = client.dispense("probe")
    future = hang(probe, eventually)
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    client.kill()
    assert future.exception(DEADLINE).code() in (Code.UNAVAILABLE, Code.CANCELLED)
    assert raised(lambda: next(stream)).code() in (Code.UNAVAILABLE, Code.CANCELLED)


@pytest.mark.parametrize("kind", ["python", "grpcio", "go"])
def test_plugin_that_dies_in_the_middle(
    make_client: Any, peers: Any, pb: Any, eventually: Any, kind: str
) -> None:
    client = make_client(peers.plugin(kind))
    _, probe = client.dispense("probe")
    future = hang(probe, eventually)
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    error = raised(lambda: probe.Exit(pb.ExitRequest(signal=signal.SIGKILL), timeout=DEADLINE))
    assert error.code() is Code.UNAVAILABLE
    assert future.exception(DEADLINE).code() is Code.UNAVAILABLE
    assert raised(lambda: next(stream)).code() is Code.UNAVAILABLE
    eventually(client.exited, "the notice of the plugin's death")
    assert client.exit_status == -signal.SIGKILL
    assert raised(lambda: probe.Echo(pb.EchoRequest())).code() is Code.UNAVAILABLE


# ---- Many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["python", "grpcio", "go"])
def test_mixed_calls_on_many_threads(make_client: Any, peers: Any, pb: Any, kind: str) -> None:
    client = make_client(peers.plugin(kind))
    channel, probe = client.dispense("probe")
    problems: list[BaseException] = []
    start = threading.Barrier(8)

    def one(number: int) -> None:
        payload = b"%d" % number
        arity = number % 6
        if arity == 0:
            assert probe.Echo(pb.EchoRequest(payload=payload)).payload == payload
        elif arity == 1:
            replies = probe.Count(pb.CountRequest(n=number % 7))
            assert [reply.number for reply in replies] == list(range(number % 7))
        elif arity == 2:
            values = [pb.SumRequest(value=value) for value in range(number % 7)]
            assert probe.Sum(iter(values)).count == len(values)
        elif arity == 3:
            messages = [pb.ChatMessage(payload=payload)] * (number % 7)
            assert list(probe.Chat(iter(messages))) == messages
        elif arity == 4:
            future = probe.Echo.future(pb.EchoRequest(payload=payload))
            assert future.result(DEADLINE).payload == payload
        else:
            error = raised(lambda: probe.Fail(pb.FailRequest(code=5, details=str(number))))
            assert error.details() == str(number)

    def run(first: int) -> None:
        try:
            start.wait(DEADLINE)
            for number in range(200):
                one(first + number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    assert problems == []
