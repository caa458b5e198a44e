"""Metadata, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from aio_stage import Code, Stage, all_of, echo, raised
from stage import replies, requests, streams, unary

SENT = grpc.aio.Metadata(("question", "what?"), ("question-bin", b"\7\xff"), ("question", "why?"))
INITIAL = grpc.aio.Metadata(("answer", "this"), ("answer-bin", b"\6\0"))
TRAILING = grpc.aio.Metadata(("trace", "none"), ("trace-bin", b"\5\0"))


def among(wanted: Any, found: Any) -> bool:
    """Whether the pairs are there, in that order for each key."""
    found = [tuple(pair) for pair in found]
    return all(
        [value for name, value in found if name == key]
        == [value for name, value in wanted if name == key]
        for key, _ in wanted
    )


@pytest.mark.parametrize("kind", [tuple, list, grpc.aio.Metadata.from_tuple, iter])
def test_requests_carry_metadata(play: Any, kind: Any) -> None:
    async def scene(stage: Stage) -> None:
        found: list[Any] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            found.extend(context.invocation_metadata())
            return b""

        metadata = kind(tuple(SENT))
        await (await stage.method(unary(behavior)))(b"", metadata=metadata)
        assert among(SENT, found)

    play(scene)


def test_metadata_of_all_arities(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def begin(context: Any) -> None:
            assert among(SENT, context.invocation_metadata())
            await context.send_initial_metadata(INITIAL)
            context.set_trailing_metadata(TRAILING)

        async def one(request: Any, context: Any) -> bytes:
            await begin(context)
            return b"1"

        async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
            await begin(context)
            yield b"1"

        channel = await stage.serve({
            "A": unary(one), "B": replies(many), "C": requests(one), "D": streams(many)
        })  # fmt: skip
        for call in (
            channel.unary_unary("/test.T/A")(b"", metadata=SENT),
            channel.unary_stream("/test.T/B")(b"", metadata=SENT),
            channel.stream_unary("/test.T/C")([], metadata=SENT),
            channel.stream_stream("/test.T/D")([], metadata=SENT),
        ):
            initial = await call.initial_metadata()
            assert isinstance(initial, grpc.aio.Metadata)
            assert initial == INITIAL
            assert (await all_of(call) if hasattr(call, "read") else [await call]) == [b"1"]
            assert await call.trailing_metadata() == TRAILING
            assert await call.code() is Code.OK

    play(scene)


def test_initial_metadata_arrive_before_the_first_reply(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        go_on = asyncio.Event()

        async def behavior(request: bytes, context: Any) -> AsyncIterator[bytes]:
            await context.send_initial_metadata(INITIAL)
            await go_on.wait()
            yield b"1"

        call = (await stage.method(replies(behavior)))(b"")
        assert await call.initial_metadata() == INITIAL
        go_on.set()
        assert await all_of(call) == [b"1"]

    play(scene)


def test_metadata_of_a_failure(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def behavior(request: bytes, context: Any) -> bytes:
            await context.send_initial_metadata(INITIAL)
            return await context.abort(Code.NOT_FOUND, "nowhere", tuple(TRAILING))

        call = (await stage.method(unary(behavior)))(b"")
        error = await raised(call)
        assert error.initial_metadata() == INITIAL
        assert error.trailing_metadata() == TRAILING
        assert await call.initial_metadata() == INITIAL
        assert await call.trailing_metadata() == TRAILING

    play(scene)


def test_initial_metadata_are_sent_once(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def twice(request: bytes, context: Any) -> AsyncIterator[bytes]:
            await context.send_initial_metadata(INITIAL)
            with pytest.raises(ValueError if stage.ours else Exception):
                await context.send_initial_metadata(INITIAL)
            yield b"1"

        call = (await stage.method(replies(twice)))(b"")
        assert await all_of(call) == [b"1"]
        assert await call.initial_metadata() == INITIAL

    play(scene)


@pytest.mark.parametrize(
    "metadata",
    [((42, 42),), (({}, {}),), ((None, {}),), (("normal", object()),)],
)
def test_metadata_that_cannot_be_sent(play: Any, metadata: Any) -> None:
    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo))
        with pytest.raises(TypeError):
            await method(b"", metadata=metadata)
        assert await method(b"x") == b"x"

    play(scene)


@pytest.mark.parametrize(
    "metadata", [(("Upper", "x"),), (("with space", "x"),), (("key", "new\nline"),)]
)
def test_metadata_that_http_does_not_carry(play_our_channel: Any, metadata: Any) -> None:
    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo))
        # grpc.aio raises an exception of its core's.
        with pytest.raises(ValueError, match="metadata was invalid"):
            await method(b"", metadata=metadata)
        assert await method(b"x") == b"x"

    play_our_channel(scene)


def test_the_context_gives_back_what_was_set(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        found: list[Any] = []

        async def behavior(request: bytes, context: Any) -> bytes:
            context.set_code(Code.NOT_FOUND)
            context.set_details("nowhere")
            context.set_trailing_metadata(TRAILING)
            found.extend([context.code(), context.details(), tuple(context.trailing_metadata())])
            return b""

        error = await raised((await stage.method(unary(behavior)))(b""))
        assert (error.code(), error.details()) == (Code.NOT_FOUND, "nowhere")
        assert found[1:] == ["nowhere", tuple(TRAILING)]
        # grpc.aio gives the number of a code.
        assert found[0] in (Code.NOT_FOUND, Code.NOT_FOUND.value[0])

    play(scene)
