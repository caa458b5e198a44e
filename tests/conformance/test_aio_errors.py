"""Failed calls, with asyncio."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import pytest
from aio_stage import Code, Probe, Stage, all_of, echo, echo_request, raised
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from stage import replies, streams, unary

import pygo_plugin
from pygo_plugin import aio


def test_failures_and_metadata(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Fail(probe_pb2.FailRequest(code=5, details="nothing"))
        assert caught.value.code() is Code.NOT_FOUND
        assert caught.value.details() == "nothing"
        with pytest.raises(grpc.RpcError):
            async for _ in stub.Count(probe_pb2.CountRequest(n=1, fail_code=9)):
                pass
        call = stub.Echo(echo_request(), metadata=(("want-initial-a", "b"), ("bin-bin", b"\xff")))
        assert (await call.initial_metadata())["a"] == "b"
        assert (await call.trailing_metadata())["trailing"] == "yes"
        assert await call.code() is Code.OK
        assert (await call).payload == b"x"
        assert call.done()
        assert not call.cancel()

    play_probe(scene)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_status_code(play: Any, code: grpc.StatusCode) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        return await context.abort(code, f"as {code.name}")

    async def scene(stage: Stage) -> None:
        call = (await stage.method(unary(fail)))(b"")
        error = await raised(call)
        assert (error.code(), error.details()) == (code, f"as {code.name}")
        assert await call.code() is code
        assert await call.details() == f"as {code.name}"
        # A call that the server ends with CANCELLED counts as cancelled, and has failed.
        assert call.cancelled() is (code is Code.CANCELLED)
        assert code.name in str(error)

    play(scene)


def test_a_stream_that_fails_at_its_end(play: Any) -> None:
    async def behavior(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        await context.abort(Code.ABORTED, "half way", (("key", "value"),))

    async def scene(stage: Stage) -> None:
        method = await stage.method(replies(behavior))
        call = method(b"")
        found = []

        async def read() -> None:
            async for reply in call:
                found.append(reply)  # noqa: PERF401

        error = await raised(read())
        assert found == [b"1", b"2"]
        assert (error.code(), error.details()) == (Code.ABORTED, "half way")
        assert ("key", "value") in tuple(error.trailing_metadata())
        call = method(b"")
        assert [await call.read() for _ in range(2)] == [b"1", b"2"]
        for _ in range(2):
            assert (await raised(call.read())).code() is Code.ABORTED

    play(scene)


def test_errors_can_be_copied_and_pickled(play_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        error = await raised(stub.Fail(probe_pb2.FailRequest(code=7, details="no")))
        for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert isinstance(other, grpc.aio.AioRpcError)
            assert (other.code(), other.details()) == (Code.PERMISSION_DENIED, "no")
            assert str(other) == str(error)

    play_probe(scene)


def test_errors_are_of_all_kinds(play_our_probe: Any) -> None:
    async def scene(stub: Any, probe: Probe) -> None:
        try:
            await stub.Fail(probe_pb2.FailRequest(code=7, details="no"))
        except pygo_plugin.RpcError as error:
            caught = error
        assert isinstance(caught, (grpc.RpcError, grpc.aio.AioRpcError))
        assert isinstance(caught, aio.AioRpcError)
        assert "PERMISSION_DENIED" in str(caught)
        thawed = pickle.loads(pickle.dumps(caught))
        assert (thawed.code(), thawed.details()) == (caught.code(), "no")
        call = stub.Echo(echo_request())
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        await call

    play_our_probe(scene)


def test_a_failing_request_iterator_ends_the_call(play_our_probe: Any) -> None:
    """Ours raises the iterator's exception, grpc.aio CancelledError; see docs/asyncio.md."""

    async def scene(stub: Any, probe: Probe) -> None:
        async def failing() -> AsyncIterator[Any]:
            yield probe_pb2.SumRequest(value=1)
            raise ValueError("no more")

        reported: list[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, reported.append
        try:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Sum(failing())
        finally:
            sys.unraisablehook = hook
        assert caught.value.code() is Code.UNKNOWN
        assert isinstance(reported[0].exc_value, ValueError)

    play_our_probe(scene)


def test_messages_that_cannot_be_serialized(play_our_probe: Any) -> None:
    """Ours makes no call; grpc.aio makes one without a request."""

    async def scene(stub: Any, probe: Probe) -> None:
        for call in (stub.Echo, lambda request: all_of(stub.Count(request))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call("no message")
            assert caught.value.code() is Code.INTERNAL
            details = caught.value.details()
            assert details.startswith("Exception serializing request! /probe.Probe/"), details
            assert isinstance(caught.value.__cause__, (TypeError, AttributeError))
        chat = stub.Chat()
        with pytest.raises((TypeError, AttributeError)):
            await chat.write("no message")
        await chat.write(probe_pb2.ChatMessage(payload=b"x"))
        assert (await chat.read()).payload == b"x"
        chat.cancel()

    play_our_probe(scene)


def test_replies_that_cannot_be_read(play_our_channel: Any) -> None:
    """Ours raises; grpc.aio logs the exception and returns None; see docs/asyncio.md."""

    def unreadable(data: bytes) -> Any:
        raise LookupError("unreadable")

    async def chat(incoming: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in incoming:
            yield request

    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": streams(chat)})
        call = channel.stream_stream("/test.T/M", response_deserializer=unreadable)()
        await call.write(b"x")
        with pytest.raises(LookupError, match="unreadable"):
            await call.read()
        assert await call.code() is Code.CANCELLED

    play_our_channel(scene)


def test_reply_that_cannot_be_read_stays_so(play_our_channel: Any) -> None:
    def unreadable(data: bytes) -> Any:
        raise LookupError("unreadable")

    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": unary(echo)})
        call = channel.unary_unary("/test.T/M", response_deserializer=unreadable)(b"x")
        for _ in range(2):
            with pytest.raises(LookupError, match="unreadable"):
                await call

    play_our_channel(scene)


# ---- Details of google.rpc -----------------------------------------------------------------------


def rich_status() -> Any:
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="wait a minute")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 60}))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUOTA", domain="test"))
    return status


def test_rich_status(play: Any) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        status = rpc_status.to_status(rich_status())
        if request:
            return await context.abort_with_status(status)
        return await context.abort(status.code, status.details, status.trailing_metadata)

    async def scene(stage: Stage) -> None:
        call = (await stage.method(unary(fail)))(b"")
        error = await raised(call)
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert error.details() == "wait a minute"
        assert rpc_status.from_call(error) == rich_status()
        assert await rpc_status.aio.from_call(call) == rich_status()
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(error).details[1].Unpack(info)
        assert (info.reason, info.domain) == ("QUOTA", "test")

    play(scene)
