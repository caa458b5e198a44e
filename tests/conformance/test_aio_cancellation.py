"""Calls that one side cancels, with asyncio."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import probe_pb2
import pytest
from aio_stage import Code, Probe, Stage, all_of, echo, echo_request, raised, sums
from stage import replies, requests, streams, unary

LOCALLY = "Locally cancelled by application!"


def test_cancelling(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Hang(probe_pb2.HangRequest())
        ended: list[Any] = []
        call.add_done_callback(ended.append)
        await probe.hanging.wait()
        assert not call.done()
        assert call.cancel()
        assert not call.cancel()
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is Code.CANCELLED
        assert await call.details() == LOCALLY
        assert ended == [call]
        await probe.cancelled.wait()

        probe.hanging.clear()
        probe.cancelled.clear()
        task = asyncio.ensure_future(stub.Hang(probe_pb2.HangRequest()))
        await probe.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await probe.cancelled.wait()

        replies = stub.Count(probe_pb2.CountRequest(n=100_000, size=1000))
        assert (await replies.read()).number == 0
        replies.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replies.read()

    play_probe(scene)


def test_cancelled_at_once(play_probe: Any) -> None:
    """Calls of all arities are cancelled before anything was sent."""

    async def scene(stub: Any, probe: Probe) -> None:
        for call in (
            stub.Echo(echo_request()),
            stub.Count(probe_pb2.CountRequest(n=3)),
            stub.Sum(),
            stub.Chat(),
        ):
            assert not call.cancelled()
            assert call.cancel()
            for _ in range(3):
                assert not call.cancel()
            assert call.cancelled()
            assert call.done()
            assert await call.code() is Code.CANCELLED
            assert await call.details() == LOCALLY
            with pytest.raises(asyncio.CancelledError):
                await (call.read() if hasattr(call, "read") else call)

    play_probe(scene)


def test_writing_to_a_cancelled_call(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Sum()
        await call.write(probe_pb2.SumRequest(value=1))
        assert call.cancel()
        for _ in range(2):
            with pytest.raises(asyncio.InvalidStateError):
                await call.write(probe_pb2.SumRequest(value=1))
        await call.done_writing()
        with pytest.raises(asyncio.CancelledError):
            await call

    play_probe(scene)


def test_cancelling_after_the_end(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        chat = stub.Chat()
        await chat.done_writing()
        assert await chat.code() is Code.OK
        assert chat.done()
        assert chat.cancel() is False
        assert chat.cancelled() is False
        assert await chat.code() is Code.OK

    play_probe(scene)


def test_cancelling_a_call_that_another_task_reads(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        chat = stub.Chat()
        await chat.write(probe_pb2.ChatMessage(payload=b"x"))
        assert (await chat.read()).payload == b"x"
        reading = asyncio.ensure_future(chat.read())
        await stub.Echo(echo_request())
        assert not reading.done()
        assert chat.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await chat.code() is Code.CANCELLED

    play_probe(scene)


@pytest.mark.parametrize("how", ["read", "iterate"])
def test_cancelling_a_task_that_reads(play: Any, how: str) -> None:
    async def scene(stage: Stage) -> None:
        reached, over = asyncio.Event(), asyncio.Event()

        async def silent(request: bytes, context: Any) -> AsyncIterator[bytes]:
            reached.set()
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                over.set()

        call = (await stage.method(replies(silent)))(b"")
        task = asyncio.ensure_future(call.read() if how == "read" else all_of(call))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call.code() is Code.CANCELLED
        await over.wait()

    play(scene)


def test_a_request_iterator_ends_with_its_call(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        arrived, closed = asyncio.Event(), asyncio.Event()

        async def behavior(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            async for _ in incoming:
                arrived.set()
            return b""

        async def outgoing() -> AsyncIterator[bytes]:
            try:
                yield b"1"
                await asyncio.Event().wait()
                yield b"2"
            finally:
                closed.set()

        call = (await stage.method(requests(behavior)))(outgoing())
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await closed.wait()

    play(scene)


def test_dropping_a_stream_cancels_it(play_our_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Sum(sums(1, -1))
        while probe.read < 2:
            await stub.Echo(echo_request())
        ended = call._ended
        del call
        gc.collect()
        await ended

    play_our_probe(scene)


def test_dropping_a_stream_reaches_the_handler(play_our_channel: Any) -> None:
    async def scene(stage: Stage) -> None:
        over = asyncio.Event()

        async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
            finally:
                over.set()

        call = (await stage.method(replies(endless)))(b"")
        assert await call.read()
        del call
        gc.collect()
        await over.wait()

    play_our_channel(scene)


# ---- In the handler ------------------------------------------------------------------------------


def test_a_handler_is_cancelled_with_its_call(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered, over = asyncio.Event(), asyncio.Event()
        contexts: list[Any] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            contexts.append(context)
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                over.set()
                raise
            return b""

        call = (await stage.method(unary(behavior)))(b"")
        await entered.wait()
        assert not contexts[0].cancelled()
        assert not contexts[0].done()
        call.cancel()
        await over.wait()
        if stage.ours:  # grpc.aio's server says so later
            assert contexts[0].cancelled()
            assert contexts[0].done()

    play(scene)


def test_a_handler_may_swallow_its_cancellation(play: Any) -> None:
    """Its reply to the cancelled call is dropped, and later calls work."""

    async def scene(stage: Stage) -> None:
        waits, over = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def stubborn(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"1"
                    waits.release()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                over.release()

        channel = await stage.serve({"M": replies(stubborn), "Echo": unary(echo)})
        for _ in range(5):
            call = channel.unary_stream("/test.T/M")(b"")
            assert await call.read() == b"1"
            await waits.acquire()
            assert call.cancel()
            assert await call.code() is Code.CANCELLED
            await over.acquire()
        assert await channel.unary_unary("/test.T/Echo")(b"x") == b"x"

    play(scene)


def test_a_client_that_goes_in_the_middle_of_requests(play_our_server: Any) -> None:
    """The iterator raises; with grpc.aio's server it ends as if all requests had come."""

    async def scene(stage: Stage) -> None:
        entered, over = asyncio.Event(), asyncio.Event()
        found: list[str] = []

        async def behavior(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                async for _ in incoming:
                    entered.set()
                found.append("the end")
            except asyncio.CancelledError:
                found.append("cancelled")
                raise
            finally:
                over.set()
            return b""

        call = (await stage.method(requests(behavior)))()
        await call.write(b"1")
        await entered.wait()
        call.cancel()
        await over.wait()
        assert found == ["cancelled"]

    play_our_server(scene)


def test_a_handler_that_leaves_its_requests_unread(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def first(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            async for request in incoming:
                return request
            return b""

        async def endless() -> AsyncIterator[bytes]:
            number = 0
            while True:
                yield b"%d" % number
                number += 1

        assert await (await stage.method(requests(first)))(endless()) == b"0"

    play(scene)


def test_an_unknown_method_ends_a_stream_of_requests(play_our_channel: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": streams(lambda incoming, context: incoming)})
        ended = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b""
            finally:
                ended.set()

        call = channel.stream_stream("/test.T/Other")(endless())
        assert (await raised(call.read())).code() is Code.UNIMPLEMENTED
        await ended.wait()

    play_our_channel(scene)
