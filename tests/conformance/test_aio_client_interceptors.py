"""Interceptors of an asyncio program's channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest
from aio_stage import Code, Stage, all_of, echo, echo_request, raised, sums
from stage import unary


class Add(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        details.metadata.add("want-initial-seen", "yes")
        return await continuation(details, request)


class Replace(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        await (await continuation(details, request))
        return probe_pb2.EchoReply(payload=b"replaced")


class Streams(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)

        async def doubled() -> AsyncIterator[Any]:
            async for reply in call:
                yield reply
                yield reply

        return doubled()


class Totals(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        async def twice() -> AsyncIterator[Any]:
            async for request in requests:
                yield request
                yield request

        return await continuation(details, twice())


class Requests(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        async def changed() -> AsyncIterator[Any]:
            async for request in requests:
                yield probe_pb2.ChatMessage(payload=request.payload + b"!")

        return await continuation(details, changed())


async def stub_with(stage: Stage, *interceptors: Any) -> Any:
    await stage.serve_probe()
    return probe_pb2_grpc.ProbeStub(stage.connect(interceptors=interceptors))


def test_unary_calls(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Add())
        call = stub.Echo(echo_request())
        assert isinstance(call, grpc.aio.Call)
        assert (await call).payload == b"x"
        assert (await call.initial_metadata())["seen"] == "yes"
        assert (await call.trailing_metadata())["trailing"] == "yes"
        assert await call.code() is Code.OK
        assert not await call.details()
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()
        assert (await call).payload == b"x"
        error = await raised(stub.Fail(probe_pb2.FailRequest(code=5)))
        assert error.code() is Code.NOT_FOUND

    play(scene)


def test_cancelling_an_intercepted_call(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Add())
        hanging = stub.Hang(probe_pb2.HangRequest())
        assert hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert hanging.cancelled()
        assert hanging.done()
        assert await hanging.code() is Code.CANCELLED

    play(scene)


def test_cancelling_a_call_that_has_begun(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        probe = await stage.serve_probe()
        stub = probe_pb2_grpc.ProbeStub(stage.connect(interceptors=[Add()]))
        hanging = stub.Hang(probe_pb2.HangRequest())
        await probe.hanging.wait()
        assert hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await probe.cancelled.wait()

    play(scene)


def test_replies_of_an_interceptor_s_own(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Replace())
        call = stub.Echo(echo_request())
        assert (await call).payload == b"replaced"
        assert await call.code() is Code.OK
        assert call.done()

    play(scene)


def test_replies_without_a_call(play: Any) -> None:
    calls: list[Any] = []

    class Cache(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            if not calls:
                calls.append(await (await continuation(details, request)))
            return calls[0]

    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Cache())
        for payload in (b"first", b"second"):
            assert (await stub.Echo(echo_request(payload))).payload == b"first"

    play(scene)


def test_all_arities(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Replace(), Streams(), Totals(), Requests())
        assert (await stub.Echo(echo_request())).payload == b"replaced"
        replies = stub.Count(probe_pb2.CountRequest(n=2))
        assert [reply.number async for reply in replies] == [0, 0, 1, 1]
        assert await replies.code() is Code.OK
        assert (await stub.Sum(sums(1, 2, 3))).total == 12
        call = stub.Sum()
        await call.write(probe_pb2.SumRequest(value=5))
        await call.done_writing()
        assert (await call).total == 10

        async def messages() -> AsyncIterator[Any]:
            yield probe_pb2.ChatMessage(payload=b"a")

        assert [reply.payload async for reply in stub.Chat(messages())] == [b"a!"]
        chat = stub.Chat()
        await chat.write(probe_pb2.ChatMessage(payload=b"a"))
        assert (await chat.read()).payload == b"a!"
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is Code.OK

    play(scene)


def test_order(play: Any) -> None:
    class Noting(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def __init__(self, name: str, seen: list[str]) -> None:
            self.name, self.seen = name, seen

        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            self.seen.append(self.name)
            call = await continuation(details, request + self.name.encode())
            self.seen.append(f"{self.name} again")
            return call

    async def scene(stage: Stage) -> None:
        seen: list[str] = []
        await stage.serve({"M": unary(echo)})
        channel = stage.connect(interceptors=[Noting("a", seen), Noting("b", seen)])
        assert await channel.unary_unary("/test.T/M")(b"x") == b"xab"
        assert seen == ["a", "b", "b again", "a again"]

    play(scene)


def test_details_may_be_changed(play: Any) -> None:
    """An interceptor sees the caller's method, timeout and metadata, and may change them."""
    seen: list[Any] = []

    class Change(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details)
            return await continuation(
                grpc.aio.ClientCallDetails(
                    b"/test.T/Right",
                    1000,
                    grpc.aio.Metadata(("key", "new")),
                    details.credentials,
                    details.wait_for_ready,
                ),
                request,
            )

    async def scene(stage: Stage) -> None:
        async def right(request: bytes, context: Any) -> bytes:
            assert 900 < context.time_remaining() < 1100
            return str(dict(context.invocation_metadata())["key"]).encode()

        await stage.serve({"Right": unary(right)})
        channel = stage.connect(interceptors=[Change()])
        call = channel.unary_unary("/test.T/Wrong")
        metadata = [("key", "old")]
        assert await call(b"", timeout=5, metadata=metadata, wait_for_ready=True) == b"new"
        (details,) = seen
        method = details.method
        assert (method if isinstance(method, str) else method.decode()) == "/test.T/Wrong"
        assert details.timeout == 5
        assert tuple(details.metadata) == (("key", "old"),)
        assert details.wait_for_ready is True

    play(scene)


def test_an_interceptor_may_try_again(play: Any) -> None:
    class Retry(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = await continuation(details, request)
            while await call.code() is Code.UNAVAILABLE:
                call = await continuation(details, request)
            return call

    async def scene(stage: Stage) -> None:
        attempts: list[int] = []

        async def flaky(request: bytes, context: Any) -> bytes:
            attempts.append(1)
            if len(attempts) < 3:
                await context.abort(Code.UNAVAILABLE, "not yet")
            return request

        await stage.serve({"M": unary(flaky)})
        channel = stage.connect(interceptors=[Retry()])
        call = channel.unary_unary("/test.T/M")(b"x")
        assert await call == b"x"
        assert await call.code() is Code.OK
        assert len(attempts) == 3

    play(scene)


def test_an_interceptor_that_raises(play: Any) -> None:
    class Failing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            raise LookupError("by design")

    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Failing())
        call = stub.Echo(echo_request())
        with pytest.raises(LookupError, match="by design"):
            await call
        assert call.done()

    play(scene)


def test_done_callbacks(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        stub = await stub_with(stage, Add(), Streams())
        for call in (stub.Echo(echo_request()), stub.Count(probe_pb2.CountRequest(n=1))):
            called_back = asyncio.Event()
            call.add_done_callback(lambda who, called_back=called_back: called_back.set())
            if hasattr(call, "__aiter__"):
                await all_of(call)
            assert await call.code() is Code.OK
            await called_back.wait()

    play(scene)


def test_what_is_no_interceptor_is_refused(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(ValueError, match="nterceptor"):
            stage.connect(interceptors=[object()])
        if stage.our_channel:
            with pytest.raises(ValueError, match="intercept_unary_unary"):
                stage.connect(interceptors=[object()])

    play(scene)
