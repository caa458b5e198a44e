"""OpenTelemetry's instrumentation of grpcio on our channels and servers: spans, and their links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import probe_pb2 as pb
import probe_pb2_grpc
import pytest
from opentelemetry.instrumentation.grpc import (
    aio_client_interceptors,
    aio_server_interceptor,
    client_interceptor,
    server_interceptor,
)
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import StatusCode

from pygo_plugin import aio, rpc

DEADLINE = 60.0
STATUS = "rpc.grpc.status_code"

LIBRARIES = {"ours": rpc, "grpcio": grpc}
AIO_LIBRARIES = {"ours": aio, "grpc.aio": grpc.aio}


class Tracing:
    """A provider of tracers of its own, and the spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    found = Tracing()
    yield found
    found.provider.shutdown()


class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    """Each method opens a span of its own, which belongs under that of its call."""

    def __init__(self, tracing: Tracing) -> None:
        self._work = lambda: tracing.tracer.start_as_current_span("work")

    def Echo(self, request: Any, context: Any) -> Any:
        with self._work():
            return pb.EchoReply(payload=request.payload)

    def Fail(self, request: Any, context: Any) -> Any:
        with self._work():
            pass
        context.abort(grpc.StatusCode.NOT_FOUND, request.details)

    def Count(self, request: Any, context: Any) -> Iterator[Any]:
        with self._work():
            pass
        for number in range(request.n):
            yield pb.CountReply(number=number)

    def Sum(self, request_iterator: Any, context: Any) -> Any:
        with self._work():
            return pb.SumReply(total=sum(request.value for request in request_iterator))

    def Chat(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        with self._work():
            pass
        yield from request_iterator


class AsyncProbe(Probe):
    async def Echo(self, request: Any, context: Any) -> Any:
        return super().Echo(request, context)

    async def Fail(self, request: Any, context: Any) -> Any:
        with self._work():
            pass
        await context.abort(grpc.StatusCode.NOT_FOUND, request.details)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for reply in super().Count(request, context):
            yield reply

    async def Sum(self, request_iterator: Any, context: Any) -> Any:
        with self._work():
            return pb.SumReply(total=sum([request.value async for request in request_iterator]))

    async def Chat(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        with self._work():
            pass
        async for request in request_iterator:
            yield request


@contextmanager
def expect_linked(tracing: Tracing, method: str, code: int = 0) -> Iterator[None]:
    """The spans of a call belong to one trace, from the caller's down to the handler's."""
    with tracing.tracer.start_as_current_span("caller") as caller:
        yield
    (client,) = tracing.of(SpanKind.CLIENT)
    (server,) = tracing.of(SpanKind.SERVER)
    (work,) = [span for span in tracing.of(SpanKind.INTERNAL) if span.name == "work"]
    chain = [caller, client, server, work]
    assert len({span.get_span_context().trace_id for span in chain}) == 1
    for above, below in zip(chain, chain[1:]):
        assert below.parent is not None
        assert below.parent.span_id == above.get_span_context().span_id, (above, below)
    for span in (client, server):
        assert span.name == f"/probe.Probe/{method}"
        assert span.attributes is not None
        assert span.attributes["rpc.service"] == "probe.Probe"
        assert span.attributes["rpc.method"] == method
        assert span.attributes[STATUS] == code


# ---- Blocking ------------------------------------------------------------------------------------


@pytest.fixture(params=LIBRARIES)
def stub(
    request: pytest.FixtureRequest, tracing: Tracing, eventually: Any, tmp_path: Path
) -> Iterator[Any]:
    """A traced stub of a traced server of ours, over our channel or over grpcio's."""
    server = rpc.server(ThreadPoolExecutor(4), interceptors=[server_interceptor(tracing.provider)])
    probe_pb2_grpc.add_ProbeServicer_to_server(Probe(tracing), server)
    target = f"unix:{tmp_path}/socket"
    server.add_insecure_port(target)
    server.start()
    with LIBRARIES[request.param].insecure_channel(target) as channel:
        yield probe_pb2_grpc.ProbeStub(
            intercept_channel(channel, client_interceptor(tracing.provider))
        )
    assert server.stop(None).wait(DEADLINE)


def both_ended(tracing: Tracing) -> bool:
    return all(tracing.of(kind) for kind in (SpanKind.CLIENT, SpanKind.SERVER))


def test_unary(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Echo"):
        assert stub.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
        eventually(lambda: both_ended(tracing))


def test_with_call(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Echo"):
        answer, call = stub.Echo.with_call(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
        assert (answer.payload, call.code()) == (b"x", grpc.StatusCode.OK)
        eventually(lambda: both_ended(tracing))


def test_future(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Echo"):
        future = stub.Echo.future(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
        assert future.result(DEADLINE).payload == b"x"
        eventually(lambda: both_ended(tracing))


def test_server_stream(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Count"):
        assert len(list(stub.Count(pb.CountRequest(n=3), timeout=DEADLINE))) == 3
        eventually(lambda: both_ended(tracing))


def test_client_stream(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Sum"):
        requests = [pb.SumRequest(value=n) for n in (1, 2)]
        assert stub.Sum(iter(requests), timeout=DEADLINE).total == 3
        eventually(lambda: both_ended(tracing))


def test_bidi_stream(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Chat"):
        messages = [pb.ChatMessage(payload=b"a"), pb.ChatMessage(payload=b"b")]
        assert list(stub.Chat(iter(messages), timeout=DEADLINE)) == messages
        eventually(lambda: both_ended(tracing))


def test_failure(stub: Any, tracing: Tracing, eventually: Any) -> None:
    with expect_linked(tracing, "Fail", code=5):
        with pytest.raises(grpc.RpcError, match="nothing there"):
            stub.Fail(pb.FailRequest(details="nothing there"), timeout=DEADLINE)
        eventually(lambda: both_ended(tracing))
    assert tracing.of(SpanKind.CLIENT)[0].status.status_code is StatusCode.ERROR


def test_context_reaches_a_plugin(make_client: Any, peers: Any, tracing: Tracing) -> None:
    with make_client(peers.plugin("go")) as client:
        channel, _ = client.dispense("probe")
        traced = intercept_channel(channel, client_interceptor(tracing.provider))
        reply = probe_pb2_grpc.ProbeStub(traced).Echo(pb.EchoRequest(), timeout=DEADLINE)
    (span,) = tracing.of(SpanKind.CLIENT)
    trace_id = span.get_span_context().trace_id
    (parent,) = [item.value for item in reply.metadata if item.key == "traceparent"]
    assert parent.split(b"-")[1] == b"%032x" % trace_id


# ---- asyncio -------------------------------------------------------------------------------------


@pytest.fixture(params=AIO_LIBRARIES)
def run(request: pytest.FixtureRequest, tracing: Tracing, tmp_path: Path) -> Any:
    """Runs a test with a traced stub of a traced server of ours."""

    async def main(test: Any) -> None:
        server = aio.server(interceptors=[aio_server_interceptor(tracing.provider)])
        probe_pb2_grpc.add_ProbeServicer_to_server(AsyncProbe(tracing), server)
        target = f"unix:{tmp_path}/socket"
        server.add_insecure_port(target)
        await server.start()
        async with AIO_LIBRARIES[request.param].insecure_channel(
            target, interceptors=aio_client_interceptors(tracing.provider)
        ) as channel:
            await test(probe_pb2_grpc.ProbeStub(channel))
            while not both_ended(tracing):  # noqa: ASYNC110
                await asyncio.sleep(0)
        await server.stop(None)

    return lambda test: asyncio.run(asyncio.wait_for(main(test), DEADLINE))


def test_unary_on_a_loop(run: Any, tracing: Tracing) -> None:
    async def test(stub: Any) -> None:
        assert (await stub.Echo(pb.EchoRequest(payload=b"x"))).payload == b"x"

    with expect_linked(tracing, "Echo"):
        run(test)


def test_server_stream_on_a_loop(run: Any, tracing: Tracing) -> None:
    async def test(stub: Any) -> None:
        assert len([reply async for reply in stub.Count(pb.CountRequest(n=3))]) == 3

    with expect_linked(tracing, "Count"):
        run(test)


async def requests_of(*messages: Any) -> AsyncIterator[Any]:
    for message in messages:
        yield message


def test_client_stream_on_a_loop(run: Any, tracing: Tracing) -> None:
    async def test(stub: Any) -> None:
        requests = requests_of(pb.SumRequest(value=1), pb.SumRequest(value=2))
        assert (await stub.Sum(requests)).total == 3

    with expect_linked(tracing, "Sum"):
        run(test)


def test_bidi_stream_on_a_loop(run: Any, tracing: Tracing) -> None:
    async def test(stub: Any) -> None:
        message = pb.ChatMessage(payload=b"a")
        assert [reply async for reply in stub.Chat(requests_of(message))] == [message]

    with expect_linked(tracing, "Chat"):
        run(test)


def test_failure_on_a_loop(run: Any, tracing: Tracing) -> None:
    async def test(stub: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Fail(pb.FailRequest(details="nothing there"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    with expect_linked(tracing, "Fail", code=5):
        run(test)
    assert tracing.of(SpanKind.CLIENT)[0].status.status_code is StatusCode.ERROR
