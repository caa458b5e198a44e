"""Calls of asyncio programs: awaited, iterated over, read and written."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest
from aio_stage import Code, Probe, Stage, all_of, echo, echo_request, raised, sums
from stage import replies, requests, streams, unary


def test_all_arities(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        assert (await stub.Echo(echo_request(b"hello"))).payload == b"hello"
        replies = stub.Count(probe_pb2.CountRequest(n=3))
        assert [reply.number async for reply in replies] == [0, 1, 2]
        assert await replies.code() is Code.OK
        assert (await stub.Sum(sums(1, 2, 3))).total == 6
        assert (await stub.Sum([probe_pb2.SumRequest(value=4)])).total == 4
        messages = [probe_pb2.ChatMessage(payload=b"%d" % n) for n in range(3)]
        assert [reply async for reply in stub.Chat(messages)] == messages

    play_probe(scene)


def test_calls_are_of_grpcios_kinds(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        for call, kind in [
            (stub.Echo(echo_request()), grpc.aio.UnaryUnaryCall),
            (stub.Count(probe_pb2.CountRequest()), grpc.aio.UnaryStreamCall),
            (stub.Sum([]), grpc.aio.StreamUnaryCall),
            (stub.Chat([]), grpc.aio.StreamStreamCall),
        ]:
            assert isinstance(call, kind)
            assert isinstance(call, grpc.aio.Call)
            assert isinstance(call, grpc.aio.RpcContext)
            assert await call.code() is Code.OK

    play_probe(scene)


def test_a_call_may_be_asked_again(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        call = (await stage.method(unary(echo)))(b"x" * 1000)
        assert not call.done()
        reply = await call
        assert await call is reply
        assert call.done()
        assert not call.cancelled()
        assert await call.code() is Code.OK
        assert await call.details() == ""
        assert tuple(await call.initial_metadata()) == ()
        assert tuple(await call.trailing_metadata()) == ()
        assert not call.cancel()

    play(scene)


def test_what_a_call_says_of_its_end_can_be_awaited_first(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo))
        assert await method(b"").code() is Code.OK
        assert await method(b"").details() == ""
        assert tuple(await method(b"").trailing_metadata()) == ()
        assert tuple(await method(b"").initial_metadata()) == ()

    play(scene)


def test_several_tasks_may_await_one_call(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        call = (await stage.method(unary(echo)))(b"x")

        async def wait() -> Any:
            return await call

        assert await asyncio.gather(*(wait() for _ in range(5))) == [b"x"] * 5

    play(scene)


def test_a_unary_call_goes_on_without_its_object(play_our_channel: Any) -> None:
    async def scene(stage: Stage) -> None:
        probe = await stage.serve_probe()
        channel = stage.connect()
        stub = probe_pb2_grpc.ProbeStub(channel)
        stub.Hang(probe_pb2.HangRequest())
        gc.collect()
        await probe.hanging.wait()
        for _ in range(10):
            gc.collect()
            await stub.Echo(echo_request())
        assert not probe.cancelled.is_set()
        await channel.close()
        await probe.cancelled.wait()

    play_our_channel(scene)


def test_a_thousand_calls_at_once(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        before = threading.active_count()
        calls = [stub.Echo(echo_request(b"%d" % n)) for n in range(1000)]
        threads = threading.active_count() - before
        replies = await asyncio.gather(*calls)
        assert [reply.payload for reply in replies] == [b"%d" % n for n in range(1000)]
        assert threads < 20

    play_probe(scene)


# ---- Reading and writing -------------------------------------------------------------------------


def test_reading_and_writing(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        chat = stub.Chat()
        await chat.wait_for_connection()
        for n in range(3):
            await chat.write(probe_pb2.ChatMessage(payload=b"%d" % n))
            assert (await chat.read()).payload == b"%d" % n
        await chat.done_writing()
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await chat.write(probe_pb2.ChatMessage())

        call = stub.Sum()
        await call.write(probe_pb2.SumRequest(value=5))
        await call.done_writing()
        assert (await call).total == 5

        replies = stub.Count(probe_pb2.CountRequest(n=1))
        assert (await replies.read()).number == 0
        assert await replies.read() is grpc.aio.EOF

    play_probe(scene)


def test_writing_after_done_writing(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        chat = stub.Chat()
        await chat.write(probe_pb2.ChatMessage(payload=b"1"))
        await chat.write(probe_pb2.ChatMessage(payload=b"2"))
        await chat.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await chat.write(probe_pb2.ChatMessage())
        assert [(await chat.read()).payload for _ in range(2)] == [b"1", b"2"]
        assert await chat.code() is Code.OK

        call = stub.Sum()
        await call.write(probe_pb2.SumRequest(value=5))
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(probe_pb2.SumRequest(value=5))
        assert (await call).total == 5

    play_probe(scene)


def test_writing_to_a_call_that_has_ended(play: Any) -> None:
    async def refuse(incoming: Any, context: Any) -> bytes:
        return await context.abort(Code.FAILED_PRECONDITION, "no more")

    async def scene(stage: Stage) -> None:
        call = (await stage.method(requests(refuse)))()
        assert await call.code() is Code.FAILED_PRECONDITION
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await call.write(b"x")
        error = await raised(call)
        assert (error.code(), error.details()) == (Code.FAILED_PRECONDITION, "no more")

    play(scene)


def test_reads_wait_for_what_is_written(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def chat(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in incoming:
                yield request + b"!"

        call = (await stage.method(streams(chat)))()
        reading = asyncio.ensure_future(call.read())
        await call.write(b"x")
        assert await reading == b"x!"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is Code.OK

    play(scene)


def test_mixing_styles_is_refused(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Chat(iter(()))
        with pytest.raises(grpc.aio.UsageError):
            await call.write(probe_pb2.ChatMessage())
        with pytest.raises(grpc.aio.UsageError):
            await call.done_writing()
        call = stub.Count(probe_pb2.CountRequest(n=5))
        async for _ in call:
            break
        with pytest.raises(grpc.aio.UsageError):
            await call.read()
        call = stub.Count(probe_pb2.CountRequest(n=5))
        assert (await call.read()).number == 0
        with pytest.raises(grpc.aio.UsageError):
            async for _ in call:
                pass

    play_probe(scene)


def test_iterating_again_goes_on(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        call = stub.Count(probe_pb2.CountRequest(n=3))
        async for reply in call:
            assert reply.number == 0
            break
        assert [reply.number for reply in await all_of(call)] == [1, 2]
        assert await all_of(call) == []

    play_probe(scene)


def test_iterators_of_requests_of_both_kinds(play: Any) -> None:
    async def join(incoming: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in incoming])

    async def scene(stage: Stage) -> None:
        method = await stage.method(requests(join))
        ended: list[str] = []

        def plain() -> Any:
            yield from (b"a", b"b")
            ended.append("plain")

        async def asynchronous() -> AsyncIterator[bytes]:
            yield b"c"
            yield b"d"
            ended.append("asynchronous")

        assert await method(plain()) == b"ab"
        assert await method(asynchronous()) == b"cd"
        assert await method([b"e"]) == b"e"
        assert ended == ["plain", "asynchronous"]

    play(scene)


# ---- Callbacks -----------------------------------------------------------------------------------


def test_done_callbacks(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        for call in (
            stub.Echo(echo_request()),
            stub.Count(probe_pb2.CountRequest(n=2)),
            stub.Sum(sums(1, 2)),
            stub.Chat([probe_pb2.ChatMessage()]),
        ):
            called_back = asyncio.Semaphore(0)
            for _ in range(2):
                call.add_done_callback(lambda who, called_back=called_back: called_back.release())
            if hasattr(call, "__aiter__"):
                await all_of(call)
            assert await call.code() is Code.OK
            await called_back.acquire()
            await called_back.acquire()
            call.add_done_callback(lambda who, called_back=called_back: called_back.release())
            await called_back.acquire()
            assert called_back.locked()

    play_probe(scene)


# ---- Connections ---------------------------------------------------------------------------------


def test_waiting_for_the_connection(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo))
        call = method(b"x")
        await call.wait_for_connection()
        assert await call == b"x"
        await call.wait_for_connection()
        unconnected = stage.connect(1).unary_unary("/test.T/M")(b"")
        error = await raised(unconnected.wait_for_connection())
        assert error.code() is Code.UNAVAILABLE

    play(scene)


def test_an_end_without_a_reply_gives_none(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = await stage.serve({
            "Unary": replies(lambda request, context: iter(())),
            "Stream": streams(lambda requests, context: iter(())),
        })  # fmt: skip
        for call in (
            channel.unary_unary("/test.T/Unary")(b"x"),
            channel.stream_unary("/test.T/Stream")([b"x"]),
        ):
            assert await call is None
            assert await call.code() is Code.OK

    play(scene)
