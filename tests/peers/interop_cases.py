"""The client's side of gRPC's standard interop cases, blocking and with asyncio.

Each case takes a stub of TestService and the channel that it belongs to.
"""

from __future__ import annotations

import queue
from typing import Any

import grpc
import interop_pb2 as pb
import interop_pb2_grpc
import pytest
from interop_servicers import INITIAL, TRAILING, payload

DEADLINE = 60.0
REQUEST_SIZES = [27182, 8, 1828, 45904]
RESPONSE_SIZES = [31415, 9, 2653, 58979]
METADATA = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\x0a\x0b\x0a\x0b\x0a\x0b"))
STATUS = pb.EchoStatus(code=2, message="test status message")
SPECIAL_STATUS = pb.EchoStatus(
    code=2, message="\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
)


def large_request(**fields: Any) -> pb.SimpleRequest:
    return pb.SimpleRequest(response_size=314159, payload=payload(271828), **fields)


def output_request(*sizes: int, request_size: int = 0) -> pb.StreamingOutputCallRequest:
    parameters = [pb.ResponseParameters(size=size) for size in sizes]
    return pb.StreamingOutputCallRequest(
        response_parameters=parameters, payload=payload(request_size)
    )


def input_requests() -> list[pb.StreamingInputCallRequest]:
    return [pb.StreamingInputCallRequest(payload=payload(size)) for size in REQUEST_SIZES]


def failing_request(status: pb.EchoStatus) -> pb.SimpleRequest:
    return pb.SimpleRequest(response_status=status)


def compressed_request(compressed: bool) -> tuple[pb.SimpleRequest, grpc.Compression]:
    request = large_request(expect_compressed=pb.BoolValue(value=compressed))
    return request, grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression


def wants_compressed(compressed: bool) -> pb.SimpleRequest:
    return large_request(response_compressed=pb.BoolValue(value=compressed))


def sizes(responses: list[Any]) -> list[int]:
    return [len(response.payload.body) for response in responses]


def check_status(caught: Any, expected: pb.EchoStatus) -> None:
    assert (caught.value.code().value[0], caught.value.details()) == (
        expected.code,
        expected.message,
    )


class Requests:
    """An iterator of requests that come one at a time, until None."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def put(self, request: Any) -> None:
        self._queue.put(request)

    def __iter__(self) -> Any:
        return iter(self._queue.get, None)


class Cases:
    """Blocking calls."""

    def empty_unary(self, stub: Any, channel: Any) -> None:
        assert stub.EmptyCall(pb.Empty(), timeout=DEADLINE) == pb.Empty()

    def large_unary(self, stub: Any, channel: Any) -> None:
        assert sizes([stub.UnaryCall(large_request(), timeout=DEADLINE)]) == [314159]

    def client_streaming(self, stub: Any, channel: Any) -> None:
        answer = stub.StreamingInputCall(iter(input_requests()), timeout=DEADLINE)
        assert answer.aggregated_payload_size == sum(REQUEST_SIZES)

    def server_streaming(self, stub: Any, channel: Any) -> None:
        call = stub.StreamingOutputCall(output_request(*RESPONSE_SIZES), timeout=DEADLINE)
        assert sizes(list(call)) == RESPONSE_SIZES

    def ping_pong(self, stub: Any, channel: Any) -> None:
        requests = Requests()
        call = stub.FullDuplexCall(iter(requests), timeout=DEADLINE)
        for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES):
            requests.put(output_request(response_size, request_size=request_size))
            assert sizes([next(call)]) == [response_size]
        requests.put(None)
        assert list(call) == []

    def empty_stream(self, stub: Any, channel: Any) -> None:
        assert list(stub.FullDuplexCall(iter([]), timeout=DEADLINE)) == []

    def cancel_after_begin(self, stub: Any, channel: Any) -> None:
        requests = Requests()
        call = stub.StreamingInputCall.future(iter(requests), timeout=DEADLINE)
        assert call.cancel()
        assert call.cancelled()
        assert call.code() == grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.FutureCancelledError):
            call.result()
        requests.put(None)

    def cancel_after_first_response(self, stub: Any, channel: Any) -> None:
        requests = Requests()
        call = stub.FullDuplexCall(iter(requests), timeout=DEADLINE)
        requests.put(output_request(31415, request_size=27182))
        assert sizes([next(call)]) == [31415]
        call.cancel()
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() == grpc.StatusCode.CANCELLED
        requests.put(None)

    def timeout_on_sleeping_server(self, stub: Any, channel: Any) -> None:
        requests = Requests()
        call = stub.FullDuplexCall(iter(requests), timeout=0.001)
        requests.put(output_request(request_size=27182))
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        requests.put(None)

    def status_code_and_message(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.UnaryCall(failing_request(STATUS), timeout=DEADLINE)
        check_status(caught, STATUS)
        requests = iter([pb.StreamingOutputCallRequest(response_status=STATUS)])
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.FullDuplexCall(requests, timeout=DEADLINE))
        check_status(caught, STATUS)

    def special_status_message(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.UnaryCall(failing_request(SPECIAL_STATUS), timeout=DEADLINE)
        check_status(caught, SPECIAL_STATUS)

    def unimplemented_method(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.UnimplementedCall(pb.Empty(), timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    def unimplemented_service(self, stub: Any, channel: Any) -> None:
        other = interop_pb2_grpc.UnimplementedServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            other.UnimplementedCall(pb.Empty(), timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    def custom_metadata(self, stub: Any, channel: Any) -> None:
        request = pb.SimpleRequest(response_size=1, payload=payload(1))
        _, call = stub.UnaryCall.with_call(request, timeout=DEADLINE, metadata=METADATA)
        assert METADATA[0] in call.initial_metadata()
        assert METADATA[1] in call.trailing_metadata()
        requests = iter([output_request(1, request_size=1)])
        call = stub.FullDuplexCall(requests, timeout=DEADLINE, metadata=METADATA)
        assert METADATA[0] in call.initial_metadata()
        assert sizes(list(call)) == [1]
        assert METADATA[1] in call.trailing_metadata()

    def client_compressed_unary(self, stub: Any, channel: Any) -> None:
        # First the proof that this server would notice.
        request, _ = compressed_request(True)
        with pytest.raises(grpc.RpcError) as caught:
            stub.UnaryCall(request, timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        for compressed in (True, False):
            request, compression = compressed_request(compressed)
            answer = stub.UnaryCall(request, timeout=DEADLINE, compression=compression)
            assert sizes([answer]) == [314159]

    def server_compressed_unary(self, stub: Any, channel: Any) -> None:
        for compressed in (True, False):
            answer = stub.UnaryCall(wants_compressed(compressed), timeout=DEADLINE)
            assert sizes([answer]) == [314159]


class AsyncCases:
    """The same with asyncio."""

    async def empty_unary(self, stub: Any, channel: Any) -> None:
        assert await stub.EmptyCall(pb.Empty(), timeout=DEADLINE) == pb.Empty()

    async def large_unary(self, stub: Any, channel: Any) -> None:
        assert sizes([await stub.UnaryCall(large_request(), timeout=DEADLINE)]) == [314159]

    async def client_streaming(self, stub: Any, channel: Any) -> None:
        call = stub.StreamingInputCall(timeout=DEADLINE)
        for request in input_requests():
            await call.write(request)
        await call.done_writing()
        assert (await call).aggregated_payload_size == sum(REQUEST_SIZES)

    async def server_streaming(self, stub: Any, channel: Any) -> None:
        call = stub.StreamingOutputCall(output_request(*RESPONSE_SIZES), timeout=DEADLINE)
        assert sizes([response async for response in call]) == RESPONSE_SIZES

    async def ping_pong(self, stub: Any, channel: Any) -> None:
        call = stub.FullDuplexCall(timeout=DEADLINE)
        for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES):
            await call.write(output_request(response_size, request_size=request_size))
            assert sizes([await call.read()]) == [response_size]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK

    async def empty_stream(self, stub: Any, channel: Any) -> None:
        call = stub.FullDuplexCall(timeout=DEADLINE)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK

    async def cancel_after_begin(self, stub: Any, channel: Any) -> None:
        call = stub.StreamingInputCall(timeout=DEADLINE)
        assert call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED
        assert call.cancelled()

    async def cancel_after_first_response(self, stub: Any, channel: Any) -> None:
        call = stub.FullDuplexCall(timeout=DEADLINE)
        await call.write(output_request(31415, request_size=27182))
        assert sizes([await call.read()]) == [31415]
        assert call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED

    async def timeout_on_sleeping_server(self, stub: Any, channel: Any) -> None:
        call = stub.FullDuplexCall(timeout=0.001)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    async def status_code_and_message(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnaryCall(failing_request(STATUS), timeout=DEADLINE)
        check_status(caught, STATUS)
        call = stub.FullDuplexCall(timeout=DEADLINE)
        await call.write(pb.StreamingOutputCallRequest(response_status=STATUS))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        check_status(caught, STATUS)

    async def special_status_message(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnaryCall(failing_request(SPECIAL_STATUS), timeout=DEADLINE)
        check_status(caught, SPECIAL_STATUS)

    async def unimplemented_method(self, stub: Any, channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnimplementedCall(pb.Empty(), timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    async def unimplemented_service(self, stub: Any, channel: Any) -> None:
        other = interop_pb2_grpc.UnimplementedServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await other.UnimplementedCall(pb.Empty(), timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    async def custom_metadata(self, stub: Any, channel: Any) -> None:
        request = pb.SimpleRequest(response_size=1, payload=payload(1))
        call = stub.UnaryCall(request, timeout=DEADLINE, metadata=METADATA)
        await call
        assert METADATA[0] in tuple(await call.initial_metadata())
        assert METADATA[1] in tuple(await call.trailing_metadata())
        call = stub.FullDuplexCall(timeout=DEADLINE, metadata=METADATA)
        assert METADATA[0] in tuple(await call.initial_metadata())
        await call.write(output_request(1, request_size=1))
        await call.done_writing()
        assert sizes([response async for response in call]) == [1]
        assert METADATA[1] in tuple(await call.trailing_metadata())

    async def client_compressed_unary(self, stub: Any, channel: Any) -> None:
        request, _ = compressed_request(True)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnaryCall(request, timeout=DEADLINE)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        for compressed in (True, False):
            request, compression = compressed_request(compressed)
            answer = await stub.UnaryCall(request, timeout=DEADLINE, compression=compression)
            assert sizes([answer]) == [314159]

    async def server_compressed_unary(self, stub: Any, channel: Any) -> None:
        for compressed in (True, False):
            answer = await stub.UnaryCall(wants_compressed(compressed), timeout=DEADLINE)
            assert sizes([answer]) == [314159]
