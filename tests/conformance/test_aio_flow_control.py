"""Streams whose two ends are not equally fast, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import probe_pb2
from aio_stage import Probe, Stage, echo, echo_request
from processes import most_memory
from stage import requests, unary

SIZE = 100_000


def test_back_pressure_of_replies(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        replies = stub.Count(probe_pb2.CountRequest(n=1000, size=SIZE))
        assert (await replies.read()).number == 0
        written = -1
        while written != probe.written:  # until the server waits for us
            written = probe.written
            for _ in range(100):
                await stub.Echo(echo_request())
        assert written < 500
        count = 1
        while await replies.read() is not grpc.aio.EOF:
            count += 1
        assert count == 1000

    play_probe(scene)


def test_back_pressure_of_requests(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        yielded = 0

        async def large() -> AsyncIterator[Any]:
            nonlocal yielded
            for n in range(1000):
                yielded = n
                yield probe_pb2.ChatMessage(payload=bytes(SIZE))

        before = most_memory()
        chat = stub.Chat(large())
        seen = -1
        while seen != yielded:
            seen = yielded
            for _ in range(100):
                await stub.Echo(echo_request())
        assert seen < 500
        count = 0
        async for _ in chat:
            count += 1
        assert count == 1000
        assert most_memory() - before < 58

    play_probe(scene)


def test_writes_wait_for_a_slow_handler(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        go_on = asyncio.Event()

        async def slow(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            await go_on.wait()
            return b"%d" % sum([len(request) async for request in incoming])

        channel = await stage.serve({"M": requests(slow), "Echo": unary(echo)})
        call = channel.stream_unary("/test.T/M")()
        sent = 0

        async def write() -> None:
            nonlocal sent
            for _ in range(500):
                await call.write(bytes(SIZE))
                sent += 1
            await call.done_writing()

        writing = asyncio.ensure_future(write())
        seen = -1
        while seen != sent:
            seen = sent
            for _ in range(100):
                await channel.unary_unary("/test.T/Echo")(b"")
        assert seen < 250
        assert not writing.done()
        go_on.set()
        assert await call == b"%d" % (500 * SIZE)
        await writing

    play(scene)
