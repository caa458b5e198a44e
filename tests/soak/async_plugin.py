"""A plugin that serves the probe service with coroutines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import probe_pb2 as pb
import probe_pb2_grpc
from pygo_plugin_peer import HANDSHAKE, ProbePlugin

from pygo_plugin import ServeConfig, aio

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    async def Echo(self, request: Any, context: Any) -> Any:
        if request.delay_ms:
            await asyncio.sleep(request.delay_ms / 1000)
        return pb.EchoReply(payload=request.payload, pid=os.getpid())

    async def Fail(self, request: Any, context: Any) -> Any:
        await context.abort(CODES[request.code], request.details)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        payload = bytes(request.size)
        for number in range(request.n):
            if request.delay_ms:
                await asyncio.sleep(request.delay_ms / 1000)
            yield pb.CountReply(number=number, payload=payload)

    async def Sum(self, request_iterator: Any, context: Any) -> Any:
        total = count = 0
        async for request in request_iterator:
            total, count = total + request.value, count + 1
        return pb.SumReply(total=total, count=count)

    async def Chat(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for message in request_iterator:
            yield message

    async def Hang(self, request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async def Exit(self, request: Any, context: Any) -> Any:
        os._exit(request.status)


class Plugin(ProbePlugin):
    def server_register(self, server: Any) -> None:
        probe_pb2_grpc.add_ProbeServicer_to_server(Probe(), server)


asyncio.run(aio.serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"probe": Plugin()})))
