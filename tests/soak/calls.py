"""What a thread does to plugins, over and over, each time something else."""

from __future__ import annotations

import collections
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import probe_pb2 as pb
import rpc_calls

from pygo_plugin import PluginError

if TYPE_CHECKING:
    from fleet import Fleet, Plugin

Random = random.Random
Call = Callable[["Plugin", Random], None]

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
CANCELLED = grpc.StatusCode.CANCELLED

done: collections.Counter[str] = collections.Counter()


def totals() -> str:
    return f"{sum(done.values())} calls, {done['ended with their plugin']} ended with their plugin"


under_way: dict[str, str] = {}


class Problems:
    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)


class Deliberate(Exception):
    """What iterators of requests raise."""


def unraisable(event: Any) -> None:
    if not isinstance(event.exc_value, Deliberate):
        sys.__unraisablehook__(event)


def payload(random: Random) -> bytes:
    return random.getrandbits(64).to_bytes(8, "big") * random.choice([0, 10, 1000, 40000])


def late(plugin: Plugin) -> set[Any]:
    """The codes of a call that took too long. Go resets the stream when its own clock says so."""
    return {DEADLINE_EXCEEDED, CANCELLED} if plugin.kind == "go" else {DEADLINE_EXCEEDED}


def expect(codes: set[Any], function: Callable[[], Any]) -> None:
    """The function succeeds, or fails with one of the codes."""
    try:
        function()
    except grpc.RpcError as error:
        if error.code() not in codes:  # type: ignore[attr-defined]
            raise


# ---- One reply -----------------------------------------------------------------------------------


def unary(plugin: Plugin, random: Random) -> None:
    sent = payload(random)
    assert plugin.probe.Echo(pb.EchoRequest(payload=sent)).payload == sent


def unary_with_call(plugin: Plugin, random: Random) -> None:
    sent = payload(random)
    metadata = [("k", "v" * random.randrange(100)), ("k-bin", bytes(random.randrange(100)))]
    reply, call = plugin.probe.Echo.with_call(pb.EchoRequest(payload=sent), metadata=metadata)
    assert reply.payload == sent
    assert call.code() is grpc.StatusCode.OK


def unary_on_a_new_channel(plugin: Plugin, random: Random) -> None:
    channel, probe = plugin.dispense()
    sent = payload(random)
    assert probe.Echo(pb.EchoRequest(payload=sent)).payload == sent
    if random.random() < 0.5:
        channel.close()


def closed_channel(plugin: Plugin, random: Random) -> None:
    channel, probe = plugin.dispense()
    future = probe.Hang.future(pb.HangRequest())
    replies = probe.Count(pb.CountRequest(n=1000, size=100))
    next(replies)
    channel.close()
    assert future.exception().code() is CANCELLED
    expect({CANCELLED}, lambda: list(replies))


def deadline(plugin: Plugin, random: Random) -> None:
    request = pb.EchoRequest(delay_ms=random.randrange(30))
    timeout = random.uniform(0, 0.03)
    expect(late(plugin), lambda: plugin.probe.Echo(request, timeout=timeout))


def deadline_of_a_hang(plugin: Plugin, random: Random) -> None:
    request = pb.HangRequest()
    timeout = random.uniform(0, 0.02)
    expect(late(plugin), lambda: plugin.probe.Hang(request, timeout=timeout))


def futures(plugin: Plugin, random: Random) -> None:
    sent = payload(random)
    called_back = threading.Event()
    calls = [plugin.probe.Echo.future(pb.EchoRequest(payload=sent)) for _ in range(4)]
    calls[0].add_done_callback(lambda _: called_back.set())
    for call in calls:
        assert call.result().payload == sent
    assert called_back.wait(30), "a callback was not called"


def cancelled_future(plugin: Plugin, random: Random) -> None:
    call = plugin.probe.Hang.future(pb.HangRequest())
    called_back = threading.Event()
    call.add_done_callback(lambda _: called_back.set())
    if random.random() < 0.5:
        time.sleep(random.uniform(0, 0.01))
    call.cancel()
    assert call.code() is not grpc.StatusCode.OK
    assert called_back.wait(30), "a callback was not called"


def forgotten_future(plugin: Plugin, random: Random) -> None:
    plugin.probe.Hang.future(pb.HangRequest())


def failure(plugin: Plugin, random: Random) -> None:
    code, details = random.randrange(1, 17), "x" * random.randrange(200)
    try:
        plugin.probe.Fail(pb.FailRequest(code=code, details=details))
    except grpc.RpcError as error:
        if (error.code().value[0], error.details()) != (code, details):  # type: ignore[attr-defined]
            raise
    else:
        raise AssertionError(f"Fail({code}) succeeded")


# ---- Streams of replies --------------------------------------------------------------------------


def stream(plugin: Plugin, random: Random) -> None:
    n = random.randrange(200)
    replies = plugin.probe.Count(pb.CountRequest(n=n, size=random.choice([0, 100, 5000])))
    assert [reply.number for reply in replies] == list(range(n))


def half_read_stream(plugin: Plugin, random: Random) -> None:
    replies = plugin.probe.Count(pb.CountRequest(n=1000, size=random.choice([0, 10000])))
    for _ in range(random.randrange(1, 20)):
        next(replies)
    if random.random() < 0.5:
        replies.cancel()
        expect({CANCELLED}, lambda: list(replies))


def deadline_of_a_stream(plugin: Plugin, random: Random) -> None:
    request = pb.CountRequest(n=1000, delay_ms=1)
    replies = plugin.probe.Count(request, timeout=random.uniform(0, 0.03))
    expect(late(plugin), lambda: list(replies))


# ---- Streams of requests -------------------------------------------------------------------------


def client_stream(plugin: Plugin, random: Random) -> None:
    n = random.randrange(100)
    reply = plugin.probe.Sum(pb.SumRequest(value=value) for value in range(n))
    assert (reply.count, reply.total) == (n, sum(range(n)))


def raising_iterator(plugin: Plugin, random: Random) -> None:
    def requests() -> Iterator[Any]:
        for value in range(random.randrange(5)):
            yield pb.SumRequest(value=value)
        raise Deliberate

    try:
        plugin.probe.Sum(requests())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNKNOWN:  # type: ignore[attr-defined]
            raise
    else:
        raise AssertionError("a call whose iterator raises succeeded")


def chat(plugin: Plugin, random: Random) -> None:
    messages = [pb.ChatMessage(payload=payload(random)) for _ in range(random.randrange(10))]
    assert list(plugin.probe.Chat(iter(messages))) == messages


def half_read_chat(plugin: Plugin, random: Random) -> None:
    """The iterator of requests never ends by itself: the end of the call has to end it."""
    over = threading.Event()

    def requests() -> Iterator[Any]:
        while not over.wait(0.001):
            yield pb.ChatMessage(payload=b"x" * 1000)

    replies = plugin.probe.Chat(requests())
    try:
        for _ in range(random.randrange(1, 5)):
            next(replies)
        if random.random() < 0.5:
            replies.cancel()
            del replies
    finally:
        if random.random() < 0.5:
            over.set()
        # Otherwise its thread ends with its next request.


CALLS: list[Call] = [
    *[unary] * 3,
    unary_with_call,
    unary_on_a_new_channel,
    closed_channel,
    deadline,
    deadline_of_a_hang,
    futures,
    cancelled_future,
    forgotten_future,
    failure,
    stream,
    half_read_stream,
    deadline_of_a_stream,
    client_stream,
    raising_iterator,
    chat,
    half_read_chat,
]


def run(fleet: Fleet, problems: Problems, stop: threading.Event, seed: str) -> None:
    """Call until the stop event is set."""
    choice = Random(seed)
    while not stop.is_set():
        plugin = fleet.any(choice, "grpc", "netrpc")
        call = choice.choice(CALLS if plugin.protocol == "grpc" else rpc_calls.CALLS)
        under_way[seed] = f"{call.__name__} on {plugin.blocking!r}"
        try:
            call(plugin, choice)
        except (grpc.RpcError, PluginError, StopIteration, OSError) as error:
            # `doomed` is set before the plugin is ended.
            if not plugin.doomed:
                problems.add(f"{call.__name__} on {plugin.kind}: {error!r}")
                stop.set()
            done["ended with their plugin"] += 1
        except BaseException as error:
            if not (plugin.doomed and isinstance(error, AssertionError)):
                problems.add(f"{call.__name__} on {plugin.kind}: {traceback.format_exc()}")
                stop.set()
            del error
        done[call.__name__] += 1
        del plugin
    under_way.pop(seed, None)
