"""The servicer that the plugins on asyncio share: see echo.py."""

import asyncio

import probe_pb2
import probe_pb2_grpc


class EchoServicer(probe_pb2_grpc.ProbeServicer):
    def __init__(self):
        self._started = 0

    async def Echo(self, request, context):
        if request.delay_ms:
            await asyncio.sleep(request.delay_ms / 1000)
        return probe_pb2.EchoReply(payload=request.payload)

    async def Count(self, request, context):
        payload = bytes(request.size)
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number, payload=payload)

    async def Sum(self, request_iterator, context):
        count = 0
        async for _ in request_iterator:
            count += 1
        return probe_pb2.SumReply(count=count)

    async def Chat(self, request_iterator, context):
        async for request in request_iterator:
            yield request

    async def Hang(self, request, context):
        self._started += 1
        await asyncio.get_running_loop().create_future()  # which is never completed

    async def Cancelled(self, request, context):
        return probe_pb2.CancelledReply(started=self._started)
