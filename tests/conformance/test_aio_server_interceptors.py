"""Interceptors of a server for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_stage import Code, Stage, all_of, echo, raised
from stage import replies, requests, streams, unary


class Noting(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Notes what it sees, and goes on a turn of the loop later."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = dict(details.invocation_metadata)
        self.seen.append((self.name, details.method, metadata.get("key")))
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
        return await continuation(details)


def test_order_and_all_arities(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        async def many(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield request

        async def join(incoming: Any, context: Any) -> bytes:
            return b"".join([request async for request in incoming])

        async def chat(incoming: Any, context: Any) -> AsyncIterator[bytes]:
            async for request in incoming:
                yield request

        def plain(request: bytes, context: Any) -> bytes:
            return request

        seen: list[Any] = []
        channel = await stage.serve(
            {
                "A": unary(echo),
                "B": replies(many),
                "C": requests(join),
                "D": streams(chat),
                "E": unary(plain),
            },
            interceptors=[Noting("outer", seen), Noting("inner", seen)],
        )
        options = {"metadata": [("key", "value")]}
        assert await channel.unary_unary("/test.T/A")(b"x", **options) == b"x"
        assert await all_of(channel.unary_stream("/test.T/B")(b"x", **options)) == [b"x"]
        assert await channel.stream_unary("/test.T/C")([b"x", b"y"], **options) == b"xy"
        assert await all_of(channel.stream_stream("/test.T/D")([b"x"], **options)) == [b"x"]
        assert await channel.unary_unary("/test.T/E")(b"x", **options) == b"x"
        assert seen == [
            (name, f"/test.T/{method}", "value")
            for method in "ABCDE"
            for name in ("outer", "inner")
        ]

    play(scene)


def test_an_interceptor_that_answers_itself(play: Any) -> None:
    seen: list[Any] = []

    class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            if dict(details.invocation_metadata).get("token") == "right":
                return await continuation(details)

            async def refuse(request: bytes, context: Any) -> Any:
                await context.abort(Code.UNAUTHENTICATED, "who are you?")

            return unary(refuse)

    async def scene(stage: Stage) -> None:
        interceptors = [Guard(), Noting("inner", seen)]
        method = await stage.method(unary(echo), interceptors=interceptors)
        error = await raised(method(b""))
        assert (error.code(), error.details()) == (Code.UNAUTHENTICATED, "who are you?")
        assert seen == []
        assert await method(b"x", metadata=[("token", "right")]) == b"x"
        assert len(seen) == 1

    play(scene)


def test_an_interceptor_may_wrap_the_handler(play: Any) -> None:
    class Shouting(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = await continuation(details)

            async def loud(request: bytes, context: Any) -> bytes:
                return bytes(await handler.unary_unary(request, context)).upper()

            return unary(loud, handler.request_deserializer, handler.response_serializer)

    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo), interceptors=[Shouting(), Shouting()])
        assert await method(b"hello") == b"HELLO"

    play(scene)


def test_interceptors_see_unknown_methods(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        seen: list[Any] = []
        channel = await stage.serve({"M": unary(echo)}, interceptors=[Noting("only", seen)])
        error = await raised(channel.unary_unary("/test.T/No")(b""))
        assert error.code() is Code.UNIMPLEMENTED
        assert [method for _, method, _ in seen] == ["/test.T/No"]

    play(scene)


def test_an_interceptor_that_raises(play: Any, lost: Any) -> None:
    class Failing(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            raise LookupError("by design")

    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo), interceptors=[Failing()])
        assert (await raised(method(b""))).code() is Code.UNKNOWN
        assert [type(error) for error in lost] == ([LookupError] if stage.ours else [])

    play(scene)


def test_what_is_no_interceptor_is_refused(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(ValueError, match="nterceptor"):
            stage.host.server(interceptors=[object()])

    play(scene)
