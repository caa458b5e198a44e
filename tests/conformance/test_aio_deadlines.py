"""Deadlines, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import probe_pb2
import pytest
from aio_stage import Code, Probe, Stage, all_of, echo_request, expired, raised
from stage import replies, requests, streams, unary


def test_deadlines(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        def hang(timeout: float) -> Any:
            call = stub.Hang(probe_pb2.HangRequest(), timeout=timeout)
            assert 0 < call.time_remaining() <= timeout
            return call

        await expired(hang, probe.hanging)
        await probe.cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Chat(timeout=0.1).read()

    play_probe(scene)


def test_deadlines_of_all_arities(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered, ended = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def one(request: Any, context: Any) -> bytes:
            await wait()
            return b""

        async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
            await wait()
            yield b""

        channel = await stage.serve({
            "A": unary(one), "B": replies(many), "C": requests(one), "D": streams(many)
        })  # fmt: skip
        for call in (
            lambda timeout: channel.unary_unary("/test.T/A")(b"", timeout=timeout),
            lambda timeout: all_of(channel.unary_stream("/test.T/B")(b"", timeout=timeout)),
            lambda timeout: channel.stream_unary("/test.T/C")(timeout=timeout),
            lambda timeout: channel.stream_stream("/test.T/D")(timeout=timeout).read(),
        ):
            entered.clear()
            ended.clear()
            error = await expired(call, entered)
            assert str(error.details()).lower() == "deadline exceeded"
            await ended.wait()

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
