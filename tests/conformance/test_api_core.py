"""google.api_core wraps the multicallables of channels, as Google's client libraries have it do."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from aio_stage import Stage as AioStage
from google.api_core import exceptions, grpc_helpers, grpc_helpers_async
from stage import DEADLINE, Stage, unary

ARITIES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def one(request: bytes, context: Any) -> bytes:
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "none")
    return request


def many(request: bytes, context: Any) -> Iterator[bytes]:
    yield request
    context.abort(grpc.StatusCode.NOT_FOUND, "none")


def test_blocking(stage: Stage) -> None:
    channel = stage.serve({"One": unary(one), "Many": grpc.unary_stream_rpc_method_handler(many)})
    call = grpc_helpers.wrap_errors(channel.unary_unary("/test.T/One"))
    assert call(b"x", timeout=DEADLINE) == b"x"
    with pytest.raises(exceptions.NotFound, match="none"):
        call(b"fail", timeout=DEADLINE)
    stream = grpc_helpers.wrap_errors(channel.unary_stream("/test.T/Many"))(b"x", timeout=DEADLINE)
    assert next(stream) == b"x"
    with pytest.raises(exceptions.NotFound, match="none"):
        next(stream)


def test_asyncio(play: Any) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        if request == b"fail":
            await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return request

    async def scene(stage: AioStage) -> None:
        channel = await stage.serve({"One": unary(answer)})
        call = grpc_helpers_async.wrap_errors(channel.unary_unary("/test.T/One"))
        assert await call(b"x") == b"x"
        with pytest.raises(exceptions.NotFound, match="none"):
            await call(b"fail")

    play(scene)


@pytest.mark.parametrize("arity", ARITIES)
def test_attributes_of_multicallables(client: Any, arity: str) -> None:
    """Users may set attributes, so functools.wraps works."""
    with client.insecure_channel("unix:/nowhere") as channel:
        multi = getattr(channel, arity)("/test.T/M")
        name = "".join(part.capitalize() for part in arity.split("_"))
        assert isinstance(multi, getattr(grpc, f"{name}MultiCallable"))
        multi.__name__ = "M"
        multi.note = 7

        @functools.wraps(multi)
        def wrapped() -> None:
            pass

        assert (wrapped.__name__, wrapped.note) == ("M", 7)  # type: ignore[attr-defined]
        assert wrapped.__wrapped__ is multi  # type: ignore[attr-defined]
        del multi.note
        assert not hasattr(multi, "note")
