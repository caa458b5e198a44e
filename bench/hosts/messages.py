"""Messages on one call, through generated stubs: what tests/peers/go/cmd/bench does, too."""

from __future__ import annotations

import queue
import time
from array import array
from itertools import repeat
from typing import TYPE_CHECKING, Any

import probe_pb2
from measure import WARM_UP, cpu_us, summary

if TYPE_CHECKING:
    import argparse

    from measure import Json


def measure_stream(stub: Any, arguments: argparse.Namespace) -> Json:
    """One stream of the kind asked for, after a short one."""
    run = {"server": _count, "client": _send, "chat": _ping_pong}[arguments.stream]
    size, messages = arguments.size, arguments.messages
    run(stub, WARM_UP, size)
    cpu, begin = cpu_us(), time.perf_counter()
    durations = run(stub, messages, size)
    elapsed, cpu = time.perf_counter() - begin, cpu_us() - cpu
    return _result(arguments, durations, elapsed, cpu)


def _result(
    arguments: argparse.Namespace, durations: array[float] | None, elapsed: float, cpu: float
) -> Json:
    size, messages = arguments.size, arguments.messages
    return {
        "kind": arguments.stream,
        "messages": messages,
        "size": size,
        "latency_us": summary(durations or [0.0], 1e6),  # of round trips, where there are any
        "per_second": messages / elapsed,
        "mb_per_second": messages * size / 1e6 / elapsed,
        "host_cpu_us_per_message": cpu / messages,
    }


def _count(stub: Any, messages: int, size: int) -> None:
    received = 0
    for _ in stub.Count(probe_pb2.CountRequest(n=messages, size=size)):
        received += 1
    _complete(received, messages)


def _send(stub: Any, messages: int, size: int) -> None:
    request = probe_pb2.SumRequest(payload=bytes(size))
    _complete(stub.Sum(repeat(request, messages)).count, messages)


def _ping_pong(stub: Any, messages: int, size: int) -> array[float]:
    message = probe_pb2.ChatMessage(payload=bytes(size))
    requests: queue.SimpleQueue[probe_pb2.ChatMessage | None] = queue.SimpleQueue()
    replies = stub.Chat(iter(requests.get, None))
    durations = array("d")
    clock = time.perf_counter
    for _ in range(messages):
        begin = clock()
        requests.put(message)
        next(replies)
        durations.append(clock() - begin)
    requests.put(None)
    _complete(len(durations) + sum(1 for _ in replies), messages)
    return durations


async def measure_stream_async(stub: Any, arguments: argparse.Namespace) -> Json:
    """The same for hosts that live on an event loop."""
    run = {"server": _count_async, "client": _send_async, "chat": _ping_pong_async}
    size, messages = arguments.size, arguments.messages
    await run[arguments.stream](stub, WARM_UP, size)
    cpu, begin = cpu_us(), time.perf_counter()
    durations = await run[arguments.stream](stub, messages, size)
    elapsed, cpu = time.perf_counter() - begin, cpu_us() - cpu
    return _result(arguments, durations, elapsed, cpu)


async def _count_async(stub: Any, messages: int, size: int) -> None:
    received = 0
    async for _ in stub.Count(probe_pb2.CountRequest(n=messages, size=size)):
        received += 1
    _complete(received, messages)


async def _send_async(stub: Any, messages: int, size: int) -> None:
    call = stub.Sum()
    request = probe_pb2.SumRequest(payload=bytes(size))
    for _ in range(messages):
        await call.write(request)
    await call.done_writing()
    _complete((await call).count, messages)


async def _ping_pong_async(stub: Any, messages: int, size: int) -> array[float]:
    message = probe_pb2.ChatMessage(payload=bytes(size))
    call = stub.Chat()
    durations = array("d")
    clock = time.perf_counter
    for _ in range(messages):
        begin = clock()
        await call.write(message)
        await call.read()
        durations.append(clock() - begin)
    await call.done_writing()
    _complete(len(durations), messages)
    await call.code()
    return durations


def _complete(got: int, want: int) -> None:
    if got != want:
        raise RuntimeError(f"{got} of {want} messages arrived")
