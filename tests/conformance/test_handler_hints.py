"""What methods ask for by attributes: to send by a callback, or a thread pool of their own."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from stage import DEADLINE, Code, Stage, raised, replies, requests, streams, unary

Send = Callable[[Any], None]


def non_blocking(behavior: Callable[[Any, Any, Send], Any]) -> Any:
    def method(request: Any, context: Any, send_response_callback: Send) -> None:
        behavior(request, context, send_response_callback)

    method.experimental_non_blocking = True  # type: ignore[attr-defined]
    return method


# ---- Health --------------------------------------------------------------------------------------


def test_more_watchers_of_health_than_workers(stage: Stage, eventually: Any) -> None:
    servicer = health.HealthServicer()
    server = stage.make(max_workers=2)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.start()
    stub = health_pb2_grpc.HealthStub(stage.connect())
    asked = health_pb2.HealthCheckRequest(service="s")
    watches = [stub.Watch(asked, timeout=DEADLINE) for _ in range(8)]
    unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert [next(watch).status for watch in watches] == [unknown] * 8
    servicer.set("s", health_pb2.HealthCheckResponse.SERVING)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert [next(watch).status for watch in watches] == [serving] * 8
    assert stub.Check(asked, timeout=DEADLINE).status == serving
    for watch in watches:
        watch.cancel()
    eventually(lambda: not servicer._send_response_callbacks["s"], "the end of the watches")


# ---- Sending by a callback -----------------------------------------------------------------------


def test_replies_and_the_end_from_another_thread(stage: Stage) -> None:
    def behavior(request: bytes, context: Any, send: Send) -> None:
        def run() -> None:
            for byte in request:
                send(bytes([byte]))
            context.set_trailing_metadata((("k", "v"),))
            send(None)

        threading.Thread(target=run).start()

    channel = stage.serve({"M": replies(non_blocking(behavior))})
    call = channel.unary_stream("/test.T/M")(b"abc", timeout=DEADLINE)
    assert list(call) == [b"a", b"b", b"c"]
    assert call.code() is Code.OK
    assert ("k", "v") in call.trailing_metadata()


def test_replies_of_several_threads(stage: Stage) -> None:
    """grpcio requires its user to serialize sends."""
    threads, each = (4, 50) if stage.ours else (1, 200)

    def behavior(request: bytes, context: Any, send: Send) -> None:
        def run() -> None:
            for _ in range(each):
                send(b"x" * 1000)

        senders = [threading.Thread(target=run) for _ in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        send(None)

    channel = stage.serve({"M": replies(non_blocking(behavior))})
    call = channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert list(call) == [b"x" * 1000] * 200


def test_a_stream_of_requests(stage: Stage) -> None:
    def behavior(messages: Iterator[bytes], context: Any, send: Send) -> None:
        for message in messages:
            send(message)
        send(None)

    channel = stage.serve({"M": streams(non_blocking(behavior))})
    call = channel.stream_stream("/test.T/M")(iter([b"a", b"b"]), timeout=DEADLINE)
    assert list(call) == [b"a", b"b"]


def test_nothing_is_sent_after_the_end(stage: Stage) -> None:
    sent = threading.Event()

    def behavior(request: bytes, context: Any, send: Send) -> None:
        send(b"first")
        send(None)
        send(b"second")
        send(None)
        sent.set()

    channel = stage.serve({"M": replies(non_blocking(behavior))})
    assert list(channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)) == [b"first"]
    assert sent.wait(DEADLINE)


def test_exception(stage: Stage) -> None:
    kept: list[Send] = []

    def behavior(request: bytes, context: Any, send: Send) -> None:
        kept.append(send)
        send(b"first")
        raise LookupError("by design")

    channel = stage.serve({"M": replies(non_blocking(behavior))})
    call = channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert next(call) == b"first"
    error = raised(lambda: next(call))
    assert error.code() is Code.UNKNOWN
    assert "by design" in error.details()
    kept[0](b"late")


def test_replies_that_cannot_be_serialized(stage: Stage) -> None:
    def behavior(request: bytes, context: Any, send: Send) -> None:
        send("no bytes")

    def refuse(reply: Any) -> bytes:
        raise TypeError("by design")

    channel = stage.serve({"M": replies(non_blocking(behavior), response_serializer=refuse)})
    error = raised(lambda: next(channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)))
    assert error.code() is Code.INTERNAL


def test_the_client_goes_away(stage: Stage, eventually: Any) -> None:
    over = threading.Event()
    kept: list[Send] = []

    def behavior(request: bytes, context: Any, send: Send) -> None:
        context.add_callback(over.set)
        kept.append(send)
        send(b"first")

    channel = stage.serve({"M": replies(non_blocking(behavior))})
    call = channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert next(call) == b"first"
    call.cancel()
    assert over.wait(DEADLINE)
    kept[0](b"late")
    kept[0](None)


# ---- A thread pool of the method's own -----------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    made = ThreadPoolExecutor(1, thread_name_prefix="own")
    yield made
    made.shutdown()


def on(pool: Any, behavior: Any) -> Any:
    behavior.experimental_thread_pool = pool
    return behavior


def test_methods_of_every_kind_run_in_it(stage: Stage, pool: ThreadPoolExecutor) -> None:
    def name(request: Any, context: Any) -> bytes:
        return threading.current_thread().name.encode()

    def names(request: Any, context: Any) -> Iterator[bytes]:
        yield threading.current_thread().name.encode()

    channel = stage.serve(
        {
            "UU": unary(on(pool, name)),
            "US": replies(on(pool, names)),
            "SU": requests(name),
            "SS": streams(names),
        }
    )
    found = [
        channel.unary_unary("/test.T/UU")(b"", timeout=DEADLINE),
        next(channel.unary_stream("/test.T/US")(b"", timeout=DEADLINE)),
        channel.stream_unary("/test.T/SU")(iter(()), timeout=DEADLINE),
        next(channel.stream_stream("/test.T/SS")(iter(()), timeout=DEADLINE)),
    ]
    assert found == [b"own_0"] * 4


def test_methods_that_wait_for_it_hold_no_worker(stage: Stage, pool: ThreadPoolExecutor) -> None:
    leave = threading.Event()

    def wait(request: bytes, context: Any) -> bytes:
        assert leave.wait(DEADLINE)
        return request

    channel = stage.serve(
        {"Wait": unary(on(pool, wait)), "Echo": unary(lambda r, c: r)}, max_workers=1
    )
    waiting = [channel.unary_unary("/test.T/Wait").future(b"x", timeout=DEADLINE) for _ in range(3)]
    assert channel.unary_unary("/test.T/Echo")(b"y", timeout=DEADLINE) == b"y"
    leave.set()
    assert [call.result() for call in waiting] == [b"x"] * 3


def test_context_variables_of_interceptors_are_there(
    stage: Stage, pool: ThreadPoolExecutor
) -> None:
    variable: contextvars.ContextVar[bytes] = contextvars.ContextVar("variable")

    class Setting(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            variable.set(b"set")
            return continuation(details)

    def read(request: bytes, context: Any) -> bytes:
        return variable.get()

    channel = stage.serve({"M": unary(on(pool, read))}, interceptors=[Setting()])
    for _ in range(2):
        assert channel.unary_unary("/test.T/M")(b"", timeout=DEADLINE) == b"set"


def test_exceptions_in_it(stage: Stage, pool: ThreadPoolExecutor) -> None:
    def fail(request: bytes, context: Any) -> bytes:
        raise LookupError("by design")

    channel = stage.serve({"M": unary(on(pool, fail))})
    error = raised(lambda: channel.unary_unary("/test.T/M")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNKNOWN
    assert "by design" in error.details()


def test_what_is_no_pool_is_ignored(stage: Stage) -> None:
    def method(request: bytes, context: Any) -> bytes:
        return request

    channel = stage.serve({"M": unary(on("no pool", method))})
    assert channel.unary_unary("/test.T/M")(b"x", timeout=DEADLINE) == b"x"


def test_the_limit_of_concurrent_calls_counts_them(
    stage: Stage, pool: ThreadPoolExecutor, eventually: Any
) -> None:
    leave, entered = threading.Event(), threading.Event()

    def wait(request: bytes, context: Any) -> bytes:
        entered.set()
        assert leave.wait(DEADLINE)
        return request

    channel = stage.serve({"M": unary(on(pool, wait))}, maximum_concurrent_rpcs=1)
    method = channel.unary_unary("/test.T/M")
    first = method.future(b"x", timeout=DEADLINE)
    assert entered.wait(DEADLINE)
    assert raised(lambda: method(b"", timeout=DEADLINE)).code() is Code.RESOURCE_EXHAUSTED
    leave.set()
    assert first.result() == b"x"

    def answered() -> bool:
        try:
            return bool(method(b"y", timeout=DEADLINE) == b"y")
        except grpc.RpcError:
            return False

    eventually(answered, "the end of the first call")


@pytest.mark.parametrize("running", [False, True])
def test_a_pool_that_is_shut_down(our_stage: Stage, running: bool, eventually: Any) -> None:
    """Calls that wait in the pool end as well; with grpcio they are never answered."""
    pool = ThreadPoolExecutor(1)
    leave, entered = threading.Event(), threading.Event()

    def wait(request: bytes, context: Any) -> bytes:
        entered.set()
        assert leave.wait(DEADLINE)
        return request

    channel = our_stage.serve({"M": unary(on(pool, wait))})
    method = channel.unary_unary("/test.T/M")
    waiting = [method.future(b"x", timeout=DEADLINE) for _ in range(2 if running else 0)]
    if running:
        assert entered.wait(DEADLINE)
        eventually(lambda: pool._work_queue.qsize() == 1, "the second call's arrival")
    pool.shutdown(wait=False, cancel_futures=True)
    error = raised(lambda: method(b"", timeout=DEADLINE))
    assert (error.code(), "pool takes no more calls" in error.details()) == (Code.UNAVAILABLE, True)
    leave.set()
    codes = {call.code() for call in waiting}
    assert codes == ({Code.OK, Code.UNAVAILABLE} if running else set())
    our_stage.servers[0].stop(None)
    assert our_stage.servers[0].join(DEADLINE)
