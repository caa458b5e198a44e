"""A peer that stops reading. Deadlines, cancel(), kill(), stop() and exit need nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import http2
import pytest

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0
SHORT = 0.02  # seconds, for calls that get no answer
BIG = bytes(200_000)  # about as much as a connection takes

TRANSPORTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tls": {"auto_mtls": True},
    "multiplexed": {"broker_multiplex": True},
}


@pytest.fixture(params=["python", "go"])
def command(request: pytest.FixtureRequest, peers: Any) -> list[str]:
    command: list[str] = peers.plugin(request.param)
    return command


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> dict[str, Any]:
    return TRANSPORTS[request.param]


# ---- A plugin that does not read ----------------------------------------------------------------


def fails(call: Callable[[], Any]) -> str:
    """The name of the status that the call ends with."""
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        call()
    name: str = caught.value.code().name  # type: ignore[attr-defined]
    return name


def test_calls_end_without_the_plugin(
    command: list[str], transport: dict[str, Any], make_client: Any, freeze: Any, eventually: Any
) -> None:
    import grpc
    import probe_pb2

    client = make_client(command, **transport)
    _, stub = client.dispense("probe")
    request = probe_pb2.EchoRequest(payload=BIG)
    stub.Echo(request, timeout=DEADLINE)
    freeze(client.pid)
    for _ in range(10):
        assert fails(lambda: stub.Echo(request, timeout=SHORT)) == "DEADLINE_EXCEEDED"
    assert fails(lambda: stub.Echo.with_call(request, timeout=SHORT)) == "DEADLINE_EXCEEDED"
    assert fails(stub.Echo.future(request, timeout=SHORT).result) == "DEADLINE_EXCEEDED"

    future = stub.Echo.future(request)
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    assert future.cancel()
    assert ended.wait(DEADLINE)
    with pytest.raises(grpc.FutureCancelledError):
        future.result()

    asked_for_requests, requests_ended = threading.Event(), threading.Event()

    def numbers() -> Iterator[Any]:
        asked_for_requests.set()
        try:
            for number in itertools.count():
                yield probe_pb2.SumRequest(value=number % 1000)
        finally:
            requests_ended.set()

    while not asked_for_requests.is_set():  # the deadline may pass before
        assert fails(lambda: stub.Sum(numbers(), timeout=SHORT)) == "DEADLINE_EXCEEDED"
    assert requests_ended.wait(DEADLINE)
    messages = itertools.repeat(probe_pb2.ChatMessage(payload=BIG))
    assert fails(lambda: next(stub.Chat(messages, timeout=SHORT))) == "DEADLINE_EXCEEDED"
    counted = stub.Count(probe_pb2.CountRequest(n=1), timeout=SHORT)
    assert list(counted.initial_metadata()) == []
    assert fails(lambda: next(counted)) == "DEADLINE_EXCEEDED"

    assert "Deadline Exceeded" in client.ping(SHORT)
    pending = [stub.Echo.future(request) for _ in range(3)]
    client.kill()
    assert client.exit_status == -signal.SIGKILL
    assert {future.code().name for future in pending} <= {"CANCELLED", "UNAVAILABLE"}


def test_awaited_calls_end_without_the_plugin(
    command: list[str], transport: dict[str, Any], handshake: Any, plugins: Any, freeze: Any
) -> None:
    import grpc
    import probe_pb2

    from pygo_plugin import aio

    async def code(awaitable: Any) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            await awaitable
        name: str = caught.value.code().name  # type: ignore[attr-defined]
        return name

    async def feed(call: Any, message: Any) -> None:
        while True:
            await call.write(message)

    async def main() -> None:
        async with aio.Client(
            command, handshake_config=handshake, plugins=plugins, **transport
        ) as client:
            _, stub = await client.dispense("probe")
            request = probe_pb2.EchoRequest(payload=BIG)
            await stub.Echo(request, timeout=DEADLINE)
            await asyncio.to_thread(freeze, client.pid)
            for _ in range(10):
                assert await code(stub.Echo(request, timeout=SHORT)) == "DEADLINE_EXCEEDED"
            cancelled = stub.Echo(request)
            waiting = asyncio.ensure_future(cancelled.code())
            await asyncio.sleep(0)
            assert cancelled.cancel()
            assert (await waiting).name == "CANCELLED"
            chat = stub.Chat(timeout=SHORT)
            message = probe_pb2.ChatMessage(payload=BIG)
            assert await code(feed(chat, message)) == "DEADLINE_EXCEEDED"
            total = stub.Sum(timeout=SHORT)
            number = probe_pb2.SumRequest(value=1)
            assert await code(feed(total, number)) == "DEADLINE_EXCEEDED"
            counted = stub.Count(probe_pb2.CountRequest(n=1), timeout=SHORT)
            assert not await counted.initial_metadata()
            assert await code(counted.read()) == "DEADLINE_EXCEEDED"
            assert "Deadline Exceeded" in await client.ping(SHORT)
            pending = [stub.Echo(request) for _ in range(3)]
            await client.kill()
            assert client.exit_status == -signal.SIGKILL
            assert {(await call.code()).name for call in pending} <= {"CANCELLED", "UNAVAILABLE"}

    asyncio.run(asyncio.wait_for(main(), 3 * DEADLINE))


HOST = """
import os, signal, sys
import probe_pb2, pygo_plugin_peer
from pygo_plugin import Client

client = Client(sys.argv[1:], handshake_config=pygo_plugin_peer.HANDSHAKE,
                plugins=pygo_plugin_peer.plugins())
_, stub = client.dispense("probe")
os.kill(client.pid, signal.SIGSTOP)
request = probe_pb2.EchoRequest(payload=bytes(200000))
futures = [stub.Echo.future(request) for _ in range(20)]
sums = stub.Sum.future(probe_pb2.SumRequest(value=n % 1000) for n in iter(int, 1))
print(client.pid, flush=True)
"""


def test_a_host_exits_without_its_plugin(peers: Any, eventually: Any) -> None:
    command = [sys.executable, "-c", HOST, *peers.plugin("python")]
    host = subprocess.run(command, stdout=subprocess.PIPE, timeout=2 * DEADLINE, check=False)
    assert host.returncode == 0
    eventually(lambda: not Path("/proc", host.stdout.decode().strip()).exists(), "its end")


# ---- A client that does not read ----------------------------------------------------------------


class Flood:
    """A handler that sends without end; its events say how far it has come."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.called_back = threading.Event()

    def serve(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.called_back.set)
        try:
            while True:
                yield BIG
                self.started.set()
        finally:
            self.ended.set()

    async def serve_async(self, request: bytes, context: Any) -> Any:
        context.add_done_callback(lambda _: self.called_back.set())
        try:
            while True:
                yield BIG
                self.started.set()
        finally:
            self.ended.set()


def handler(behavior: Any) -> Any:
    from pygo_plugin import rpc

    method = rpc.unary_stream_rpc_method_handler(behavior)
    return rpc.method_handlers_generic_handler("test.T", {"Flood": method})


@pytest.fixture
def call_unread(socket_dir: Path) -> Iterator[Callable[..., None]]:
    """Calls Flood, accepts replies of any size, and reads none."""
    with contextlib.ExitStack() as stack:

        def call(timeout: bytes | None = None) -> None:
            connection = http2.Connection(str(socket_dir / "s"), read=False)
            stack.callback(connection.close)
            headers = http2.request(
                b"/test.T/Flood", *([] if timeout is None else [(b"grpc-timeout", timeout)])
            )
            window = struct.pack(">I", 2**31 - 1 - 65535)
            connection.send(
                http2.frame(http2.WINDOW_UPDATE, 0, 0, window)
                + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, headers)
                + http2.frame(http2.DATA, http2.END_STREAM, 1, http2.message(b""))
            )

        yield call


def start_server(flood: Flood, directory: Path) -> Any:
    from pygo_plugin import rpc

    server = rpc.server()
    server.add_generic_rpc_handlers((handler(flood.serve),))
    server.add_insecure_port(f"unix:{directory}/s")
    server.start()
    return server


def call_past_a_deadline(call_unread: Any, flood: Flood) -> None:
    """Returns once a handler has ended at its call's deadline.

    A busy machine may need more than the time to get to the handler. Then another call is made.
    """
    call_unread(b"100m")
    while not flood.ended.wait(1):
        call_unread(b"100m")


def test_a_handler_ends_at_the_deadline_of_a_client_that_does_not_read(
    socket_dir: Path, call_unread: Any
) -> None:
    flood = Flood()
    server = start_server(flood, socket_dir)
    call_past_a_deadline(call_unread, flood)
    assert flood.called_back.wait(DEADLINE)
    assert server.stop(None).wait(DEADLINE)


@pytest.mark.parametrize("grace", [None, 0.05])
def test_a_server_stops_without_a_client_that_does_not_read(
    socket_dir: Path, call_unread: Any, grace: float | None
) -> None:
    flood = Flood()
    server = start_server(flood, socket_dir)
    call_unread()
    assert flood.started.wait(DEADLINE)
    assert server.stop(grace).wait(DEADLINE)
    assert flood.ended.wait(DEADLINE)


@pytest.mark.parametrize("past_a_deadline", [False, True])
def test_a_server_on_a_loop_stops_without_a_client_that_does_not_read(
    socket_dir: Path, call_unread: Any, past_a_deadline: bool
) -> None:
    from pygo_plugin import rpc

    flood = Flood()

    async def main() -> None:
        server = rpc.aio.server()
        server.add_generic_rpc_handlers((handler(flood.serve_async),))
        server.add_insecure_port(f"unix:{socket_dir}/s")
        await server.start()
        if past_a_deadline:
            await asyncio.to_thread(call_past_a_deadline, call_unread, flood)
        else:
            call_unread()
            assert await asyncio.to_thread(flood.started.wait, DEADLINE)
        await asyncio.wait_for(server.stop(0.05), DEADLINE)
        assert await asyncio.to_thread(flood.ended.wait, DEADLINE)
        assert await asyncio.to_thread(flood.called_back.wait, DEADLINE)

    asyncio.run(asyncio.wait_for(main(), 3 * DEADLINE))


SERVER = """
import sys, threading
from pygo_plugin import rpc

started = threading.Event()

def flood(request, context):
    while True:
        yield bytes(200000)
        started.set()

server = rpc.server()
method = rpc.unary_stream_rpc_method_handler(flood)
server.add_generic_rpc_handlers((rpc.method_handlers_generic_handler("test.T", {"Flood": method}),))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
print("ready", flush=True)
started.wait(60)
"""


def test_a_process_exits_without_a_client_that_does_not_read(
    socket_dir: Path, call_unread: Any
) -> None:
    command = [sys.executable, "-c", SERVER, str(socket_dir / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            call_unread()
            assert process.wait(2 * DEADLINE) == 0
        finally:
            process.kill()
    (socket_dir / "s").unlink(missing_ok=True)
