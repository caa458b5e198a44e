"""What tasks of an event loop do to plugins, over and over, each time something else."""

from __future__ import annotations

import asyncio
import random
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import probe_pb2 as pb
import probe_pb2_grpc
from calls import CANCELLED, Deliberate, Problems, done, late, payload, under_way

from pygo_plugin import PluginError

if TYPE_CHECKING:
    from fleet import Fleet, Plugin

Random = random.Random

TASKS = 8


async def expect(codes: set[Any], awaitable: Awaitable[Any]) -> None:
    """It succeeds, or fails with one of the codes."""
    try:
        await awaitable
    except grpc.RpcError as error:
        if error.code() not in codes:  # type: ignore[attr-defined]
            raise


async def all_of(replies: Any) -> list[Any]:
    return [reply async for reply in replies]


async def unary(plugin: Plugin, probe: Any, random: Random) -> None:
    sent = payload(random)
    assert (await probe.Echo(pb.EchoRequest(payload=sent))).payload == sent


async def at_once(plugin: Plugin, probe: Any, random: Random) -> None:
    sent = payload(random)
    replies = await asyncio.gather(*[probe.Echo(pb.EchoRequest(payload=sent)) for _ in range(8)])
    assert [reply.payload for reply in replies] == [sent] * 8


async def deadline(plugin: Plugin, probe: Any, random: Random) -> None:
    request = pb.EchoRequest(delay_ms=random.randrange(30))
    await expect(late(plugin), probe.Echo(request, timeout=random.uniform(0, 0.03)))


async def cancelled_call(plugin: Plugin, probe: Any, random: Random) -> None:
    call = probe.Hang(pb.HangRequest())
    if random.random() < 0.5:
        await asyncio.sleep(random.uniform(0, 0.01))
    call.cancel()
    assert await call.code() is not grpc.StatusCode.OK


async def cancelled_task(plugin: Plugin, probe: Any, random: Random) -> None:
    async def wait() -> None:
        await probe.Hang(pb.HangRequest())

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(random.uniform(0, 0.01))
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


async def forgotten_call(plugin: Plugin, probe: Any, random: Random) -> None:
    """The call goes on without a reference; without a deadline it would keep a worker for ever."""
    probe.Hang(pb.HangRequest(), timeout=random.uniform(0, 0.1))
    await asyncio.sleep(0)


async def failure(plugin: Plugin, probe: Any, random: Random) -> None:
    code = random.randrange(1, 17)
    try:
        await probe.Fail(pb.FailRequest(code=code, details="x"))
    except grpc.RpcError as error:
        if error.code().value[0] != code:  # type: ignore[attr-defined]
            raise
    else:
        raise AssertionError(f"Fail({code}) succeeded")


async def stream(plugin: Plugin, probe: Any, random: Random) -> None:
    n = random.randrange(200)
    request = pb.CountRequest(n=n, size=random.choice([0, 100, 5000]))
    assert [reply.number for reply in await all_of(probe.Count(request))] == list(range(n))


async def half_read_stream(plugin: Plugin, probe: Any, random: Random) -> None:
    replies = probe.Count(pb.CountRequest(n=1000, size=random.choice([0, 10000])))
    for _ in range(random.randrange(1, 20)):
        await replies.read()
    if random.random() < 0.5:
        replies.cancel()
        assert await replies.code() in (CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def deadline_of_a_stream(plugin: Plugin, probe: Any, random: Random) -> None:
    request = pb.CountRequest(n=1000, delay_ms=1)
    replies = probe.Count(request, timeout=random.uniform(0, 0.03))
    await expect(late(plugin), all_of(replies))


async def client_stream(plugin: Plugin, probe: Any, random: Random) -> None:
    n = random.randrange(100)
    reply = await probe.Sum(pb.SumRequest(value=value) for value in range(n))
    assert (reply.count, reply.total) == (n, sum(range(n)))


async def raising_iterator(plugin: Plugin, probe: Any, random: Random) -> None:
    async def requests() -> AsyncIterator[Any]:
        for value in range(random.randrange(5)):
            yield pb.SumRequest(value=value)
        raise Deliberate

    try:
        await probe.Sum(requests())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNKNOWN:  # type: ignore[attr-defined]
            raise
    else:
        raise AssertionError("a call whose iterator raises succeeded")


async def chat(plugin: Plugin, probe: Any, random: Random) -> None:
    call = probe.Chat()
    for _ in range(random.randrange(10)):
        message = pb.ChatMessage(payload=payload(random))
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def half_read_chat(plugin: Plugin, probe: Any, random: Random) -> None:
    async def requests() -> AsyncIterator[Any]:
        while True:
            yield pb.ChatMessage(payload=b"x" * 1000)
            await asyncio.sleep(0.001)

    replies = probe.Chat(requests())
    for _ in range(random.randrange(1, 5)):
        await replies.read()
    if random.random() < 0.5:
        replies.cancel()


Call = Callable[["Plugin", Any, Random], Awaitable[None]]

CALLS: list[Call] = [
    *[unary] * 3,
    at_once,
    deadline,
    cancelled_call,
    cancelled_task,
    forgotten_call,
    failure,
    stream,
    half_read_stream,
    deadline_of_a_stream,
    client_stream,
    raising_iterator,
    chat,
    half_read_chat,
]


async def one(plugin: Plugin, call: Call, random: Random) -> None:
    channel = plugin.client.new_channel()
    try:
        await call(plugin, probe_pb2_grpc.ProbeStub(channel), random)
    finally:
        if random.random() < 0.5:
            await channel.close()


async def repeat(fleet: Fleet, problems: Problems, stop: threading.Event, seed: str) -> None:
    random = Random(seed)
    while not stop.is_set():
        plugin = fleet.any(random, "grpc")
        call = random.choice(CALLS)
        under_way[seed] = f"{call.__name__} of asyncio on {plugin.client!r}"
        try:
            await one(plugin, call, random)
        except (grpc.RpcError, PluginError) as error:
            if not plugin.doomed:
                problems.add(f"{call.__name__} of asyncio on {plugin.kind}: {error!r}")
                stop.set()
            done["ended with their plugin"] += 1
        except BaseException as error:
            if not (plugin.doomed and isinstance(error, (AssertionError, asyncio.CancelledError))):
                problems.add(
                    f"{call.__name__} of asyncio on {plugin.kind}: {traceback.format_exc()}"
                )
                stop.set()
            del error
        done[call.__name__] += 1
        del plugin
    under_way.pop(seed, None)


def run(fleet: Fleet, problems: Problems, stop: threading.Event, seed: str) -> None:
    """Call until the stop event is set, on an event loop of its own."""

    async def main() -> None:
        await asyncio.gather(*[repeat(fleet, problems, stop, f"{seed}/{n}") for n in range(TASKS)])

    asyncio.run(main())
