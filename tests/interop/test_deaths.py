"""Plugins that are killed while threads and event loops wait for them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import probe_pb2 as pb
import pytest

from pygo_plugin import RpcError, aio

DEADLINE = 60.0
THREADS = 8

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]


def hang(probe: Any) -> None:
    probe.Hang(pb.HangRequest())


def hang_as_future(probe: Any) -> None:
    raise probe.Hang.future(pb.HangRequest()).exception(2 * DEADLINE)


def read_on(probe: Any) -> None:
    """Reads a stream of replies that does not end during the test."""
    for _ in probe.Count(pb.CountRequest(n=1 << 30, size=1000)):
        pass


def send_on(probe: Any) -> None:
    probe.Sum(iter(lambda: pb.SumRequest(value=1), None))


def call_on(probe: Any) -> None:
    while True:
        probe.Echo(pb.EchoRequest(payload=b"x" * 1000))


WAYS = [hang, hang_as_future, read_on, send_on, call_on, hang, read_on, call_on]


def hanging(probe: Any) -> int:
    found = probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE)
    return int(found.started - found.cancelled)


@pytest.mark.parametrize("kind", ["python", "go"])
def test_killed_under_eight_threads(
    kind: str, make_client: Any, peers: Any, eventually: Callable[..., Any]
) -> None:
    client = make_client(peers.plugin(kind))
    _, probe = client.dispense("probe")
    errors: list[BaseException] = []

    def run(way: Callable[[Any], None]) -> None:
        try:
            way(probe)
        except RpcError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(way,)) for way in WAYS]
    for thread in threads:
        thread.start()
    eventually(lambda: hanging(probe) == 3, "the calls")
    os.kill(client.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)
    codes = {error.code() for error in errors}  # type: ignore[attr-defined]
    assert (len(errors), codes) == (THREADS, {grpc.StatusCode.UNAVAILABLE})
    eventually(client.exited, "the news of the plugin's end")
    assert client.exit_status == -signal.SIGKILL
    assert client.ping() != ""
    client.kill()

    again = make_client(peers.plugin(kind))
    _, probe = again.dispense("probe")
    assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"


@pytest.mark.parametrize("kind", ["python", "go"])
def test_killed_under_an_event_loop(
    kind: str, handshake: Any, plugins: Any, peers: Any, eventually: Callable[..., Any]
) -> None:
    async def requests() -> Any:
        while True:
            yield pb.SumRequest(value=1)

    async def read_on(probe: Any) -> None:
        async for _ in probe.Count(pb.CountRequest(n=1 << 30)):
            pass

    async def send_on(probe: Any) -> None:
        await probe.Sum(requests())

    async def hang(probe: Any) -> None:
        await probe.Hang(pb.HangRequest())

    async def main() -> list[Any]:
        command = peers.plugin(kind)
        async with aio.Client(command, handshake_config=handshake, plugins=plugins) as client:
            _, probe = await client.dispense("probe")
            calls = [asyncio.ensure_future(way(probe)) for way in (read_on, send_on, hang, hang)]
            while True:
                found = await probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE)
                if found.started == 2:
                    break
            os.kill(client.pid, signal.SIGKILL)
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(asyncio.wait_for(main(), 2 * DEADLINE))
    assert [error.code() for error in errors] == [grpc.StatusCode.UNAVAILABLE] * 4


@pytest.fixture
def children_of_launches(make_client: Any, peers: Any) -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_many_launches_in_a_row(
    make_client: Any, peers: Any, children_of_launches: list[int]
) -> None:
    """Plugins that are killed in each way in turn leave nothing behind."""
    for number in range(60):
        client = make_client(peers.plugin("go"))
        _, probe = client.dispense("probe")
        children_of_launches.append(client.pid)
        future = probe.Hang.future(pb.HangRequest())
        if number % 3 == 0:
            os.kill(client.pid, signal.SIGKILL)
        elif number % 3 == 1:
            with pytest.raises(RpcError):
                probe.Exit(pb.ExitRequest(status=3))
        client.kill()
        assert future.exception(DEADLINE) is not None


# ---- What calls say of it ------------------------------------------------------------------------

either_way = pytest.mark.parametrize(
    "how",
    [{}, {"auto_mtls": True}, {"broker_multiplex": True}],
    ids=["plain", "mtls", "multiplexed"],
)


def details(call: Callable[[], Any]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    text: str = caught.value.details()  # type: ignore[attr-defined]
    return text


@either_way
@pytest.mark.parametrize("kind", ["python", "go"])
def test_calls_say_how_the_plugin_has_exited(
    kind: str, make_client: Any, peers: Any, how: dict[str, Any]
) -> None:
    client = make_client(peers.plugin(kind), **how)
    _, probe = client.dispense("probe")
    _, other = client.dispense("probe")
    stream = probe.Count(pb.CountRequest(n=1 << 30, size=1000))
    next(stream)
    future = other.Hang.future(pb.HangRequest())
    over = threading.Event()

    def messages() -> Iterator[Any]:
        yield pb.ChatMessage()
        over.wait(2 * DEADLINE)

    chat = other.Chat(messages())
    next(chat)
    reason = "exited with status 9"
    assert reason in details(lambda: probe.Exit(pb.ExitRequest(status=9), timeout=DEADLINE))
    assert reason in details(lambda: list(stream))
    assert reason in details(lambda: list(chat))
    assert reason in details(future.result)
    assert reason in future.details()
    assert reason in details(lambda: probe.Echo(pb.EchoRequest(), timeout=DEADLINE))
    assert reason in details(lambda: other.Echo.with_call(pb.EchoRequest(), timeout=DEADLINE))
    assert reason in client.ping()
    over.set()


@either_way
def test_calls_say_what_signal_has_killed_the_plugin(
    make_client: Any, peers: Any, eventually: Callable[..., Any], how: dict[str, Any]
) -> None:
    client = make_client(peers.plugin("python"), **how)
    _, probe = client.dispense("probe")
    future = probe.Hang.future(pb.HangRequest())
    eventually(lambda: hanging(probe) == 1)
    os.kill(client.pid, signal.SIGKILL)
    reason = "was killed by signal 9 (SIGKILL)"
    assert reason in details(future.result)
    assert reason in details(lambda: probe.Echo(pb.EchoRequest(), timeout=DEADLINE))


@either_way
def test_awaited_calls_say_how_the_plugin_has_exited(
    peers: Any, handshake: Any, plugins: Any, how: dict[str, Any]
) -> None:
    reason = "exited with status 9"

    async def main() -> None:
        async with aio.Client(
            peers.plugin("python"), handshake_config=handshake, plugins=plugins, **how
        ) as client:
            _, probe = await client.dispense("probe")
            hanging = probe.Hang(pb.HangRequest())
            stream = probe.Count(pb.CountRequest(n=1 << 30, size=1000))
            await stream.__anext__()
            for start in (
                lambda: probe.Exit(pb.ExitRequest(status=9)),
                lambda: hanging,
                lambda: probe.Echo(pb.EchoRequest()),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    await start()
                assert reason in caught.value.details()  # type: ignore[attr-defined]
            with pytest.raises(grpc.RpcError) as caught:
                async for _ in stream:
                    pass
            assert reason in caught.value.details()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(main(), 3 * DEADLINE))


def test_a_plugin_that_goes_on_is_said_to_be_unavailable_and_no_more(
    make_client: Any, peers: Any
) -> None:
    _, probe = make_client(peers.plugin("python")).dispense("probe")
    code = grpc.StatusCode.UNAVAILABLE.value[0]
    request = pb.FailRequest(code=code, details="later")
    assert details(lambda: probe.Fail(request, timeout=DEADLINE)) == "later"
