"""Calls whose server resets the stream, as servers of Go do when the deadline has passed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import http2
import pytest
from stage import DEADLINE, Code

from pygo_plugin import aio, rpc

CANCEL = 8  # of RFC 9113, 7
CALLS = 10  # one reset in two was early for gRPC's clock
METHOD = "/test.T/M"
# What gRPC says of the reset: older versions, and newer ones.
DETAILS = {
    "Received RST_STREAM with error code 8",
    "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))",
}


@pytest.fixture
def server(socket_dir: Path) -> Iterator[Any]:
    made = http2.Server(str(socket_dir / "s"), CANCEL)
    yield made
    made.close()


@pytest.fixture
def target(server: Any, socket_dir: Path) -> str:
    return f"unix:{socket_dir}/s"


def blocking(channel: Any, timeout: float) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(METHOD)(b"", timeout=timeout)
    return caught.value


def future(channel: Any, timeout: float) -> Any:
    return channel.unary_unary(METHOD).future(b"", timeout=timeout).exception(DEADLINE)


def replies(channel: Any, timeout: float) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        next(channel.unary_stream(METHOD)(b"", timeout=timeout))
    return caught.value


def requests(channel: Any, timeout: float) -> Any:
    return channel.stream_unary(METHOD).future(iter([b""]), timeout=timeout).exception(DEADLINE)


def both(channel: Any, timeout: float) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        next(channel.stream_stream(METHOD)(iter([b""]), timeout=timeout))
    return caught.value


FORMS = [blocking, future, replies, requests, both]


@pytest.mark.parametrize("call", FORMS)
def test_a_reset_by_the_servers_timer(
    call: Callable[[Any, float], Any], server: Any, target: str
) -> None:
    # Counted from the arrival of the call, it ends after the client's deadline, however short.
    server.after = 0.02
    with rpc.insecure_channel(target) as channel:
        errors = [call(channel, server.after) for _ in range(CALLS)]
    assert {(error.code(), error.details()) for error in errors} == {
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    }


@pytest.mark.parametrize("timeout", [DEADLINE, None])
@pytest.mark.parametrize("call", FORMS)
def test_a_reset_before_the_deadline(
    call: Callable[[Any, float | None], Any], timeout: float | None, server: Any, target: str
) -> None:
    with rpc.insecure_channel(target) as channel:
        error = call(channel, timeout)
    assert error.code() is Code.CANCELLED
    assert error.details() in DETAILS


def test_resets_with_asyncio(server: Any, target: str) -> None:
    async def status(call: Any) -> tuple[Code, str]:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await (call if hasattr(call, "__await__") else call.read())
        return await call.code(), await call.details()

    async def main() -> None:
        async with aio.insecure_channel(target) as channel:
            methods = [channel.unary_unary(METHOD), channel.unary_stream(METHOD)]
            for method in methods:
                found = await status(method(b"", timeout=DEADLINE))
                assert found in {(Code.CANCELLED, details) for details in DETAILS}
            server.after = 0.02
            for method in methods:
                found = {await status(method(b"", timeout=server.after)) for _ in range(CALLS)}
                assert found == {(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")}

    asyncio.run(main())
