"""Either library on either side of a call, for tests of asyncio in tests/conformance.

"ours" is pygo_plugin.aio, "grpcio" is grpc.aio. The fixture `play` runs a test's coroutine with all
four pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest
from stage import BaseStage

from pygo_plugin import aio

DEADLINE = 60.0  # seconds for what happens soon

Code = grpc.StatusCode

LIBRARIES: dict[str, Any] = {"ours": aio, "grpcio": grpc.aio}


class Stage(BaseStage):
    """Servers of one library, and channels of one to them, on the running loop."""

    libraries = LIBRARIES

    async def serve(self, methods: dict[str, Any], **options: Any) -> Any:
        """Serves the methods, by name, as /test.T/name: a channel to them."""
        server = self.make(**options)
        handler = grpc.method_handlers_generic_handler("test.T", methods)
        server.add_generic_rpc_handlers((handler,))
        await server.start()
        return self.connect(len(self.servers) - 1)

    async def method(self, handler: Any, **options: Any) -> Any:
        """Serves the handler as a method, and gives what calls it."""
        kind = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }[handler.request_streaming, handler.response_streaming]
        return getattr(await self.serve({"M": handler}, **options), kind)("/test.T/M")

    async def serve_probe(self, **options: Any) -> Probe:
        """Starts a server with the probe service."""
        server, probe = self.make(**options), Probe()
        probe_pb2_grpc.add_ProbeServicer_to_server(probe, server)
        await server.start()
        return probe

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        for server in self.servers:
            await server.stop(None)


async def raised(awaitable: Any) -> Any:
    """The AioRpcError that awaiting this raises."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


async def expired(call: Callable[[float], Any], entered: asyncio.Event) -> Any:
    """The AioRpcError of a call, made with a timeout, whose deadline passes during its handler.

    A busy machine may need more than the time to get there. The next call has twice as much.
    """
    timeout = 0.1
    while True:
        error = await raised(call(timeout))
        assert error.code() is Code.DEADLINE_EXCEEDED
        if entered.is_set():
            return error
        timeout *= 2


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def echo(request: bytes, context: Any) -> bytes:
    return request


class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    """The probe service for asyncio, as far as these tests use it."""

    def __init__(self) -> None:
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.written = 0
        self.read = 0

    async def Echo(self, request: Any, context: Any) -> Any:
        wanted = [
            (k[13:], v) for k, v in context.invocation_metadata() if k[:13] == "want-initial-"
        ]
        if wanted:
            await context.send_initial_metadata(wanted)
        context.set_trailing_metadata((("trailing", "yes"),))
        return probe_pb2.EchoReply(payload=request.payload)

    async def Fail(self, request: Any, context: Any) -> Any:
        if request.code == 2:
            raise ValueError("as asked")
        await context.abort(_code(request.code), request.details)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number, payload=bytes(request.size))
            self.written += 1
        if request.fail_code:
            await context.abort(_code(request.fail_code), request.fail_details)

    async def Sum(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        total = count = 0
        async for request in request_iterator:
            total, count = total + request.value, count + 1
            self.read = count
            if request.value < 0:
                await asyncio.Event().wait()
        return probe_pb2.SumReply(total=total, count=count)

    async def Chat(self, request_iterator: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)

    async def Hang(self, request: Any, context: Any) -> Any:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def _code(number: int) -> Any:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def echo_request(payload: bytes = b"x") -> Any:
    return probe_pb2.EchoRequest(payload=payload)


async def sums(*values: int) -> AsyncIterator[Any]:
    for value in values:
        yield probe_pb2.SumRequest(value=value)
