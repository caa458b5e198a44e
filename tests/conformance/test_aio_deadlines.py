"""Deadlines, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import probe_pb2
import pytest
from aio_stage import Code, Probe, Stage, all_of, echo_request, raised
from stage import replies, requests, streams, unary


def test_deadlines(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Hang(probe_pb2.HangRequest(), timeout=0.2)
        assert 0 < call.time_remaining() <= 0.2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        await probe.cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Chat(timeout=0.1).read()

    play_probe(scene)


def test_deadlines_of_all_arities(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        over = asyncio.Semaphore(0)

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                over.release()

        async def one(request: Any, context: Any) -> bytes:
            await wait()
            return b""

        async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
            await wait()
            yield b""

        channel = await stage.serve({
            "A": unary(one), "B": replies(many), "C": requests(one), "D": streams(many)
        })  # fmt: skip
        ends = [
            channel.unary_unary("/test.T/A")(b"", timeout=0.1),
            all_of(channel.unary_stream("/test.T/B")(b"", timeout=0.1)),
            channel.stream_unary("/test.T/C")(timeout=0.1),
            channel.stream_stream("/test.T/D")(timeout=0.1).read(),
        ]
        for end in ends:
            error = await raised(end)
            assert error.code() is Code.DEADLINE_EXCEEDED
            assert str(error.details()).lower() == "deadline exceeded"
        for _ in ends:
            await over.acquire()

    play(scene)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_deadline_that_has_passed(play: Any, timeout: float) -> None:
    async def scene(stage: Stage) -> None:
        async def wait(request: bytes, context: Any) -> bytes:
            await asyncio.Event().wait()
            return b""

        method = await stage.method(unary(wait))
        assert (await raised(method(b"", timeout=timeout))).code() is Code.DEADLINE_EXCEEDED

    play(scene)


def test_the_server_knows_the_deadline(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        found: list[Any] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            found.append(context.time_remaining())
            return b""

        method = await stage.method(unary(behavior))
        await method(b"", timeout=50)
        await method(b"")
        assert 0 < found[0] <= 51
        assert found[1] is None

    play(scene)


def test_time_remaining(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Echo(echo_request(), timeout=50)
        assert 0 < call.time_remaining() <= 50
        await call
        assert stub.Echo(echo_request()).time_remaining() is None

    play_probe(scene)
