"""Handlers of servers for asyncio: what they take, return and raise."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_stage import Code, Stage, all_of, echo, raised
from stage import replies, requests, streams, unary


def test_the_four_kinds(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
            for number in range(int(request)):
                yield b"%d" % number

        async def join(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            return b",".join([request async for request in incoming])

        async def chat(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in incoming:
                yield request

        channel = await stage.serve({
            "A": unary(echo), "B": replies(count), "C": requests(join), "D": streams(chat)
        })  # fmt: skip
        assert await channel.unary_unary("/test.T/A")(b"x") == b"x"
        numbers = [b"%d" % n for n in range(100)]
        assert await all_of(channel.unary_stream("/test.T/B")(b"100")) == numbers
        assert await all_of(channel.unary_stream("/test.T/B")(b"0")) == []
        assert await channel.stream_unary("/test.T/C")([b"1", b"2"]) == b"1,2"
        assert await channel.stream_unary("/test.T/C")([]) == b""
        assert await all_of(channel.stream_stream("/test.T/D")(numbers)) == numbers

    play(scene)


def test_readers_and_writers(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def count(request: bytes, context: Any) -> None:
            for number in range(int(request)):
                await context.write(b"%d" % number)

        async def join(unused: Any, context: Any) -> bytes:
            found = []
            while (request := await context.read()) is not grpc.aio.EOF:
                found.append(request)
            assert await context.read() is grpc.aio.EOF
            return b",".join(found)

        async def chat(unused: Any, context: Any) -> None:
            while (request := await context.read()) is not grpc.aio.EOF:
                await context.write(request)

        channel = await stage.serve({"B": replies(count), "C": requests(join), "D": streams(chat)})
        assert await all_of(channel.unary_stream("/test.T/B")(b"3")) == [b"0", b"1", b"2"]
        assert await channel.stream_unary("/test.T/C")([b"1", b"2"]) == b"1,2"
        assert await all_of(channel.stream_stream("/test.T/D")([b"1", b"2"])) == [b"1", b"2"]

    play(scene)


def test_reading_and_iterating_in_one_handler(play: Any) -> None:
    """A handler may read() its first request and iterate over the others; a client likewise."""

    async def scene(stage: Stage) -> None:
        async def join(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            first = await context.read()
            return first + b":" + b",".join([request async for request in incoming])

        async def chat(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            yield b"first " + await context.read()
            async for request in incoming:
                await context.write(request)
            yield b"last"

        channel = await stage.serve({"C": requests(join), "D": streams(chat)})
        assert await channel.stream_unary("/test.T/C")([b"1", b"2", b"3"]) == b"1:2,3"
        assert await all_of(channel.stream_stream("/test.T/D")([b"1", b"2", b"3"])) == [
            b"first 1",
            b"2",
            b"3",
            b"last",
        ]

    play(scene)


def test_sync_methods_beside_coroutines(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        here = threading.get_ident()

        def one(request: bytes, context: Any) -> bytes:
            assert threading.get_ident() != here
            return request

        def many(request: bytes, context: Any) -> Iterator[bytes]:
            assert threading.get_ident() != here
            yield from (request, request)

        def total(incoming: Iterator[bytes], context: Any) -> bytes:
            assert threading.get_ident() != here
            return b"%d" % sum(int(request) for request in incoming)

        def chat(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
            assert threading.get_ident() != here
            for request in incoming:
                yield request + b"!"

        async def beside(request: bytes, context: Any) -> bytes:
            assert threading.get_ident() == here
            return request

        channel = await stage.serve({
            "A": unary(one), "B": replies(many), "C": requests(total), "D": streams(chat),
            "E": unary(beside),
        })  # fmt: skip
        for _ in range(3):
            assert await channel.unary_unary("/test.T/A")(b"1") == b"1"
            assert await all_of(channel.unary_stream("/test.T/B")(b"1")) == [b"1", b"1"]
            numbers = [b"%d" % n for n in range(4)]
            assert await channel.stream_unary("/test.T/C")(numbers) == b"6"
            assert await all_of(channel.stream_stream("/test.T/D")([b"1"])) == [b"1!"]
            assert await channel.unary_unary("/test.T/E")(b"1") == b"1"

    play(scene)


def test_sync_methods_end_as_they_say(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        def behavior(request: bytes, context: Any) -> bytes:
            context.set_trailing_metadata([("key", "value")])
            if request == b"abort":
                context.abort(Code.NOT_FOUND, "nowhere")
            if request == b"raise":
                raise LookupError("by design")
            context.set_code(Code.DATA_LOSS)
            context.set_details("lost")
            return b""

        method = await stage.method(unary(behavior))
        for request, code, details in [
            (b"abort", Code.NOT_FOUND, "nowhere"),
            (b"raise", Code.UNKNOWN, "by design"),
            (b"", Code.DATA_LOSS, "lost"),
        ]:
            error = await raised(method(request))
            assert error.code() is code
            assert details in error.details()
            assert ("key", "value") in tuple(error.trailing_metadata())

    play(scene)


def test_callables_of_all_kinds(play: Any) -> None:
    class Callable:
        async def __call__(self, request: bytes, context: Any) -> bytes:
            return request + b"!"

    class Servicer:
        async def method(self, more: bytes, request: bytes, context: Any) -> bytes:
            return request + more

    async def scene(stage: Stage) -> None:
        methods = {
            "Partial": unary(functools.partial(Servicer().method, b"?")),
            **({"Object": unary(Callable())} if stage.ours else {}),  # grpc.aio: on a thread
        }
        channel = await stage.serve(methods)
        assert await channel.unary_unary("/test.T/Partial")(b"x") == b"x?"
        if stage.ours:
            assert await channel.unary_unary("/test.T/Object")(b"x") == b"x!"

    play(scene)


# ---- How they are found --------------------------------------------------------------------------


def test_registered_handlers_come_first(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def registered(request: bytes, context: Any) -> bytes:
            return b"registered"

        server = stage.make()
        generic = grpc.method_handlers_generic_handler("test.T", {"M": unary(echo)})
        server.add_generic_rpc_handlers((generic,))
        server.add_registered_method_handlers("test.T", {"M": unary(registered)})
        await server.start()
        method = stage.connect().unary_unary("/test.T/M", _registered_method=True)
        assert await method(b"x") == b"registered"

    play(scene)


def test_generic_handlers_are_asked_in_order(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        asked: list[Any] = []

        class Generic(grpc.GenericRpcHandler):
            def __init__(self, name: str, answer: Any) -> None:
                self.name, self.answer = name, answer

            def service(self, details: Any) -> Any:
                metadata = dict(details.invocation_metadata)
                asked.append((self.name, details.method, metadata["key"]))
                return self.answer

        server = stage.make()
        server.add_generic_rpc_handlers([Generic("first", None)])
        server.add_generic_rpc_handlers([Generic("second", unary(echo)), Generic("third", None)])
        await server.start()
        call = stage.connect().unary_unary("/any.Thing/Goes")
        assert await call(b"x", metadata=[("key", "value")]) == b"x"
        assert asked == [(name, "/any.Thing/Goes", "value") for name in ("first", "second")]

    play(scene)


def test_unknown_methods(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": unary(echo)})
        for path in ("/test.T/Other", "/other/M", "M"):
            error = await raised(channel.unary_unary(path)(b""))
            assert error.code() is Code.UNIMPLEMENTED
            named = f" ({path})" if stage.ours else ""
            assert error.details() == f"Method not found!{named}"

    play(scene)


def test_failing_lookup(play: Any, lost: Any) -> None:
    class Failing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            raise LookupError("no idea")

    async def scene(stage: Stage) -> None:
        server = stage.make()
        server.add_generic_rpc_handlers([Failing()])
        await server.start()
        error = await raised(stage.connect().unary_unary("/test.T/M")(b""))
        assert error.code() is Code.UNKNOWN
        assert [type(e) for e in lost] == ([LookupError] if stage.ours else [])

    play(scene)


# ---- Failures ------------------------------------------------------------------------------------


def test_what_methods_end_with(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: int, context: Any) -> Any:
            if request == 0:
                return "not bytes"
            if request == 1:
                raise ValueError("as asked")
            if request == 2:
                context.set_code(Code.DATA_LOSS)
                context.set_details("lost")
                return b""
            return await context.abort(Code.OK, "not a failure")

        method = await stage.method(unary(behavior, request_deserializer=int))
        for case, code in [(1, Code.UNKNOWN), (2, Code.DATA_LOSS)]:
            assert (await raised(method(b"%d" % case))).code() is code
        if stage.ours:  # grpc.aio's server sends the one, and never answers the other
            assert (await raised(method(b"0"))).code() is Code.INTERNAL
            assert (await raised(method(b"3"))).code() is Code.UNKNOWN

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "as asked" in caplog.text
    assert "Traceback" in caplog.text


def test_requests_that_cannot_be_read(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    def unreadable(data: bytes) -> Any:
        raise LookupError("by design")

    async def scene(stage: Stage) -> None:
        error = await raised((await stage.method(unary(echo, unreadable)))(b""))
        # grpc.aio's server takes it for an exception of the method.
        assert error.code() is (Code.INTERNAL if stage.ours else Code.UNKNOWN)
        if stage.ours:
            assert error.details() == "Exception deserializing request!"

    play(scene)
    assert "by design" in caplog.text


def test_a_generator_that_raises(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield b"1"
            raise LookupError("by design")

        call = (await stage.method(replies(behavior)))(b"")
        assert await call.read() == b"1"
        error = await raised(call.read())
        assert error.code() is Code.UNKNOWN
        assert "by design" in error.details()

    play(scene)
    assert "by design" in caplog.text


def test_a_handler_that_raises_while_requests_come(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for _ in incoming:
                raise LookupError("by design")
            yield b""

        call = (await stage.method(streams(behavior)))()
        await call.write(b"1")
        assert await call.code() is Code.UNKNOWN

    play(scene)


def test_a_code_that_was_set_before_an_exception(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            context.set_code(Code.NOT_FOUND)
            context.set_details("not here")
            raise LookupError("by design")

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert error.code() is Code.NOT_FOUND
        if stage.ours:  # grpc.aio's server says what was raised
            assert error.details() == "not here"

    play(scene)


def test_a_code_without_an_exception_ends_a_stream(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in incoming:
                yield request
            context.set_code(Code.INTERNAL)

        call = (await stage.method(streams(behavior)))([b"1"])
        assert await call.read() == b"1"
        assert (await raised(call.read())).code() is Code.INTERNAL

    play(scene)


def test_a_caught_abort_still_counts(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            try:
                await context.abort(Code.ABORTED, "caught")
            except Exception:
                return b"reply"

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.ABORTED, "caught")

    play(scene)


def test_an_abort_after_a_caught_one_is_refused(play: Any) -> None:
    """The first one counts."""

    async def scene(stage: Stage) -> None:
        refused = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            try:
                await context.abort(Code.ABORTED, "first", (("which", "first"),))
            except grpc.aio.AbortError:
                try:
                    await context.abort(Code.NOT_FOUND, "second", (("which", "second"),))
                except grpc.aio.UsageError:
                    refused.set()
            return b"reply"

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.ABORTED, "first")
        assert ("which", "first") in tuple(error.trailing_metadata())
        await refused.wait()  # where the status goes out with the first one, this comes later

    play(scene)


def test_abort_with_a_number(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            return await context.abort(3, "wrong")

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, "wrong")

    play(scene)


@pytest.mark.parametrize("wrong", [{}, {"key": "value"}, 7])
def test_trailing_metadata_that_are_none(play: Any, wrong: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            with pytest.raises(TypeError):
                context.set_trailing_metadata(wrong)
            return b"reply"

        assert await (await stage.method(unary(behavior)))(b"") == b"reply"

    play(scene)


def test_aborting_is_an_abort_error(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        found = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            try:
                await context.abort(Code.ABORTED, "on its way")
            except grpc.aio.AbortError:
                found.set()
                raise
            return b""

        assert (await raised((await stage.method(unary(behavior)))(b""))).code() is Code.ABORTED
        await found.wait()

    play(scene)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_generators_are_closed_when_the_client_goes(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered, over = asyncio.Event(), asyncio.Event()

        async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
                    entered.set()
            finally:
                over.set()

        channel = await stage.serve({"M": replies(endless)})
        call = channel.unary_stream("/test.T/M")(b"")
        assert await call.read()
        await entered.wait()
        await channel.close()
        await over.wait()

    play(scene)
