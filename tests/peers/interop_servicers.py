"""gRPC's standard interop service, for servers of threads and for asyncio."""

from __future__ import annotations

import asyncio
import time

import grpc
import interop_pb2 as pb
import interop_pb2_grpc

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


def payload(size):
    return pb.Payload(body=bytes(size))


def echoed(context, key):
    """What the request's metadata has under the key, to be sent back."""
    return [(name, value) for name, value in context.invocation_metadata() if name == key]


def wanted_status(request):
    """The code and the message to fail with, or None."""
    wanted = request.response_status
    if not wanted.code:
        return None
    return next(code for code in grpc.StatusCode if code.value[0] == wanted.code), wanted.message


def wanted_compression(request):
    wanted = request.response_compressed.value
    return grpc.Compression.Gzip if wanted else grpc.Compression.NoCompression


class TestService(interop_pb2_grpc.TestServiceServicer):
    __test__ = False  # for pytest

    def EmptyCall(self, request, context):
        return pb.Empty()

    def UnaryCall(self, request, context):
        answer_metadata(context)
        if request.HasField("response_compressed"):
            context.set_compression(wanted_compression(request))
        if status := wanted_status(request):
            context.abort(*status)
        return pb.SimpleResponse(payload=payload(request.response_size))

    def StreamingOutputCall(self, request, context):
        yield from responses(request)

    def StreamingInputCall(self, request_iterator, context):
        size = sum(len(request.payload.body) for request in request_iterator)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(self, request_iterator, context):
        answer_metadata(context)
        for request in request_iterator:
            if status := wanted_status(request):
                context.abort(*status)
            yield from responses(request)


def answer_metadata(context):
    if initial := echoed(context, INITIAL):
        context.send_initial_metadata(initial)
    context.set_trailing_metadata(echoed(context, TRAILING))


def responses(request):
    for wanted in request.response_parameters:
        if wanted.interval_us:
            time.sleep(wanted.interval_us / 1e6)
        yield pb.StreamingOutputCallResponse(payload=payload(wanted.size))


class AsyncTestService(interop_pb2_grpc.TestServiceServicer):
    async def EmptyCall(self, request, context):
        return pb.Empty()

    async def UnaryCall(self, request, context):
        await answer_metadata_async(context)
        if request.HasField("response_compressed"):
            context.set_compression(wanted_compression(request))
        if status := wanted_status(request):
            await context.abort(*status)
        return pb.SimpleResponse(payload=payload(request.response_size))

    async def StreamingOutputCall(self, request, context):
        async for response in responses_async(request):
            yield response

    async def StreamingInputCall(self, request_iterator, context):
        size = 0
        async for request in request_iterator:
            size += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, request_iterator, context):
        await answer_metadata_async(context)
        async for request in request_iterator:
            if status := wanted_status(request):
                await context.abort(*status)
            async for response in responses_async(request):
                yield response


async def answer_metadata_async(context):
    if initial := echoed(context, INITIAL):
        await context.send_initial_metadata(initial)
    context.set_trailing_metadata(echoed(context, TRAILING))


async def responses_async(request):
    for wanted in request.response_parameters:
        if wanted.interval_us:
            await asyncio.sleep(wanted.interval_us / 1e6)
        yield pb.StreamingOutputCallResponse(payload=payload(wanted.size))
