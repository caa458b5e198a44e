"""The server, in this process and called through a socket.

Most tests run three times: our server called by our channel and by grpcio's, and grpcio's server
called by grpcio's channel, which shows that they ask for what grpcio's users know.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pygo_plugin import ConfigError, _channel
from pygo_plugin._server import Server

DEADLINE = 20.0  # seconds for what happens soon

Code = grpc.StatusCode
unary = grpc.unary_unary_rpc_method_handler
replies = grpc.unary_stream_rpc_method_handler
requests = grpc.stream_unary_rpc_method_handler
streams = grpc.stream_stream_rpc_method_handler


def echo(request: bytes, context: Any) -> bytes:
    return request


def raised(call: Callable[[], Any]) -> Any:
    """The RpcError that the call raises."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


class Stage:
    """Servers of one kind, and channels of one kind to them."""

    def __init__(self, server: str, channel: str, directory: Path) -> None:
        self.ours = server == "ours"
        self._connect = _channel.Channel if channel == "ours" else grpc.insecure_channel
        self._directory = directory
        self.servers: list[Any] = []
        self.channels: list[Any] = []

    def make(self, max_workers: int = 16, **options: Any) -> Any:
        """A server that listens and has not been started."""
        if self.ours:
            server: Any = Server(max_workers=max_workers, **options)
        else:
            server = grpc.server(futures.ThreadPoolExecutor(max_workers), **options)
        server.add_insecure_port(self.target(len(self.servers)))
        self.servers.append(server)
        return server

    def target(self, number: int = 0) -> str:
        return f"unix:{self._directory}/{number}"

    def connect(self, number: int = 0) -> Any:
        channel = self._connect(self.target(number))
        self.channels.append(channel)
        return channel

    def serve(self, methods: dict[str, Any], **options: Any) -> Any:
        """Serves the methods, by name, as /test.T/name: a channel to them."""
        server = self.make(**options)
        handler = grpc.method_handlers_generic_handler("test.T", methods)
        server.add_generic_rpc_handlers((handler,))
        server.start()
        return self.connect()

    def call(self, behavior: Any, request: bytes = b"", **options: Any) -> Any:
        """Serves this as a unary method, and calls it."""
        return (
            self.serve({"M": unary(behavior)})
            .unary_unary("/test.T/M")
            .with_call(request, timeout=DEADLINE, **options)
        )

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        gc.collect()  # grpcio's server waits for calls that only the collector frees
        for server in self.servers:
            server.stop(0).wait(DEADLINE)  # None would have grpcio's wait without a bound
        self.servers.clear()


PAIRS = [("ours", "ours"), ("ours", "grpcio"), ("grpcio", "grpcio")]


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def stage(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[Stage]:
    made = Stage(*request.param, socket_dir)
    yield made
    made.close()


@pytest.fixture(params=["ours", "grpcio"])
def own(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[Stage]:
    """Our server, called by either channel."""
    made = Stage("ours", request.param, socket_dir)
    yield made
    made.close()


# ---- The four kinds of methods ------------------------------------------------------------------


def test_unary(stage: Stage) -> None:
    reply, call = stage.call(lambda request, context: request + b"!", b"x")
    assert (reply, call.code()) == (b"x!", Code.OK)


def test_replies(stage: Stage) -> None:
    def count(request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    call = stage.serve({"M": replies(count)}).unary_stream("/test.T/M")
    assert list(call(b"100", timeout=DEADLINE)) == [b"%d" % number for number in range(100)]
    assert list(call(b"0", timeout=DEADLINE)) == []


def test_any_iterable_of_replies(own: Stage) -> None:
    channel = own.serve({"M": replies(lambda request, context: [b"1", b"2"])})
    assert list(channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)) == [b"1", b"2"]


def test_requests(stage: Stage) -> None:
    channel = stage.serve({"M": requests(lambda incoming, context: b",".join(incoming))})
    call = channel.stream_unary("/test.T/M")
    assert call(iter([b"1", b"2", b"3"]), timeout=DEADLINE) == b"1,2,3"
    assert call(iter(()), timeout=DEADLINE) == b""


def test_streams(stage: Stage) -> None:
    channel = stage.serve({"M": streams(lambda incoming, context: incoming)})
    sent = [b"%d" % number for number in range(100)]
    assert list(channel.stream_stream("/test.T/M")(iter(sent), timeout=DEADLINE)) == sent


def test_handler_may_leave_requests_unread(stage: Stage) -> None:
    channel = stage.serve({"M": requests(lambda incoming, context: next(incoming))})
    endless = (b"%d" % number for number in range(1_000_000_000))
    assert channel.stream_unary("/test.T/M")(endless, timeout=DEADLINE) == b"0"


# ---- Handlers -----------------------------------------------------------------------------------


def test_registered_handlers(stage: Stage) -> None:
    server = stage.make()
    server.add_registered_method_handlers("test.T", {"A": unary(echo), "B": unary(echo)})
    server.start()
    channel = stage.connect()
    # grpcio's channel reaches these only with what newer generated code passes.
    for method in ("A", "B"):
        call = channel.unary_unary(f"/test.T/{method}", _registered_method=True)
        assert call(b"x", timeout=DEADLINE) == b"x"


def test_generic_handlers_are_asked_in_order(stage: Stage) -> None:
    asked: list[Any] = []

    class Generic(grpc.GenericRpcHandler):
        def __init__(self, name: str, answer: Any) -> None:
            self.name, self.answer = name, answer

        def service(self, details: Any) -> Any:
            asked.append((self.name, details.method, dict(details.invocation_metadata)["key"]))
            return self.answer

    server = stage.make()
    server.add_generic_rpc_handlers([Generic("first", None)])
    server.add_generic_rpc_handlers([Generic("second", unary(echo)), Generic("third", None)])
    server.start()
    call = stage.connect().unary_unary("/any.Thing/Goes")
    assert call(b"x", timeout=DEADLINE, metadata=[("key", "value")]) == b"x"
    assert asked == [(name, "/any.Thing/Goes", "value") for name in ("first", "second")]


def test_generic_handlers_are_checked(stage: Stage) -> None:
    with pytest.raises(AttributeError, match="service"):
        stage.make().add_generic_rpc_handlers([object()])


def test_unknown_method(stage: Stage) -> None:
    channel = stage.serve({"M": unary(echo)})
    for path in ("/test.T/Other", "/other/M", "M"):
        error = raised(lambda path=path: channel.unary_unary(path)(b"", timeout=DEADLINE))
        assert error.code() is Code.UNIMPLEMENTED
    assert error.details() == "Method not found!"
    stream = channel.stream_stream("/test.T/Other")(iter([b""] * 10), timeout=DEADLINE)
    assert raised(lambda: next(stream)).code() is Code.UNIMPLEMENTED


def test_failing_lookup(own: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            raise LookupError("no idea")

    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))
    server = own.make()
    server.add_generic_rpc_handlers([Failing()])
    server.start()
    error = raised(lambda: own.connect().unary_unary("/test.T/M")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNKNOWN
    assert error.details() == "Exception in service handler!"
    assert [type(error) for error in lost] == [LookupError]


# ---- Serializers --------------------------------------------------------------------------------


def fail(*args: Any) -> Any:
    raise LookupError("by design")


def test_serializers(stage: Stage) -> None:
    handler = unary(
        lambda request, context: request + 1,
        request_deserializer=int,
        response_serializer=lambda reply: b"%d" % reply,
    )
    call = stage.serve({"M": handler}).unary_unary("/test.T/M")
    assert call(b"41", timeout=DEADLINE) == b"42"


@pytest.mark.parametrize("make", [unary, replies])
def test_request_that_cannot_be_read(
    stage: Stage, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel = stage.serve({"M": make(echo, request_deserializer=fail)})
    call = channel.unary_stream if make is replies else channel.unary_unary
    error = raised(lambda: list(call("/test.T/M")(b"", timeout=DEADLINE)))
    assert error.code() is Code.INTERNAL
    assert error.details() == "Exception deserializing request!"
    assert "by design" in caplog.text


def test_later_request_that_cannot_be_read(own: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """As grpcio, whose own server sometimes does not stop any more after that."""
    handler = requests(lambda incoming, context: b"%d" % sum(incoming), request_deserializer=int)
    call = own.serve({"M": handler}).stream_unary("/test.T/M")
    error = raised(lambda: call(iter([b"1", b"x"]), timeout=DEADLINE))
    assert error.code() is Code.INTERNAL
    assert error.details() == "Exception deserializing request!"


@pytest.mark.parametrize("make", [unary, replies])
def test_reply_that_cannot_be_written(
    stage: Stage, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def behavior(request: bytes, context: Any) -> Any:
        return iter([request]) if make is replies else request

    channel = stage.serve({"M": make(behavior, response_serializer=fail)})
    call = channel.unary_stream if make is replies else channel.unary_unary
    error = raised(lambda: list(call("/test.T/M")(b"", timeout=DEADLINE)))
    assert error.code() is Code.INTERNAL
    assert error.details() == "Failed to serialize response!"
    assert "by design" in caplog.text


@pytest.mark.parametrize("reply", [None, "text", 5])
def test_reply_of_the_wrong_type(own: Stage, reply: Any, caplog: pytest.LogCaptureFixture) -> None:
    error = raised(lambda: own.call(lambda request, context: reply))
    assert error.code() is Code.INTERNAL
    assert error.details() == "Failed to serialize response!"
    assert f"messages must be bytes, not {type(reply).__name__}" in caplog.text


def test_no_iterable_of_replies(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    channel = stage.serve({"M": replies(lambda request, context: 5)})
    error = raised(lambda: list(channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)))
    assert error.code() is Code.UNKNOWN
    assert error.details().startswith("Exception iterating responses: ")


# ---- Failures -----------------------------------------------------------------------------------


def test_handler_that_raises(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    error = raised(lambda: stage.call(fail))
    assert error.code() is Code.UNKNOWN
    assert error.details() == "Exception calling application: by design"
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "Exception calling application: by design" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    assert "in fail" in caplog.text


def test_generator_that_raises(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        fail()

    stream = stage.serve({"M": replies(behavior)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert next(stream) == b"1"
    error = raised(lambda: next(stream))
    assert error.code() is Code.UNKNOWN
    assert error.details() == "Exception iterating responses: by design"
    assert "by design" in caplog.text


def test_exception_with_a_text_that_is_no_utf_8(
    own: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            return "\udcff not UTF-8"

    def behavior(request: bytes, context: Any) -> bytes:
        raise Unprintable

    error = raised(lambda: own.call(behavior))
    assert error.code() is Code.UNKNOWN
    assert error.details() == r"Exception calling application: \udcff not UTF-8"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_end_the_call_alone(
    own: Stage, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        if request:
            raise kind
        return b"still here"

    channel = own.serve({"M": unary(behavior)})
    call = channel.unary_unary("/test.T/M")
    assert raised(lambda: call(b"x", timeout=DEADLINE)).code() is Code.UNKNOWN
    assert call(b"", timeout=DEADLINE) == b"still here"


def test_code_and_details_that_were_set_before_an_exception(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_code(Code.NOT_FOUND)
        context.set_details("not here")
        context.set_trailing_metadata([("key", "value")])
        raise LookupError("by design")

    error = raised(lambda: stage.call(behavior))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, "not here")
    assert ("key", "value") in error.trailing_metadata()


# ---- The context --------------------------------------------------------------------------------


def test_context_is_a_servicer_context(stage: Stage) -> None:
    found: list[bool] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(isinstance(context, grpc.ServicerContext))
        found.append(isinstance(context, grpc.RpcContext))
        return b""

    stage.call(behavior)
    assert found == [True, True]
    for server in stage.servers:
        assert isinstance(server, grpc.Server)


def test_context_has_all_that_grpcios_has(own: Stage) -> None:
    names = [name for name in dir(grpc.ServicerContext) if not name.startswith("_")]
    missing: list[str] = []

    def behavior(request: bytes, context: Any) -> bytes:
        missing.extend(name for name in names if not callable(getattr(context, name, None)))
        return b""

    own.call(behavior)
    assert missing == []
    assert len(names) > 15


def test_set_code_and_details(stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(context.code())
        context.set_code(Code.ALREADY_EXISTS)
        context.set_details("it does: \N{SNOWMAN}")
        found.append(context.code())
        return b""

    error = raised(lambda: stage.call(behavior))
    assert error.code() is Code.ALREADY_EXISTS
    assert error.details() == "it does: \N{SNOWMAN}"
    assert found == [None, Code.ALREADY_EXISTS]


def test_details_can_be_read(own: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(context.details())
        context.set_details("text")
        context.set_trailing_metadata([("key", "value")])
        found.extend([context.details(), context.trailing_metadata()])
        return b""

    own.call(behavior)
    assert found == [None, "text", (("key", "value"),)]


def test_ok_with_details(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_code(Code.OK)
        context.set_details("fine")
        return b"x"

    reply, call = stage.call(behavior)
    assert (reply, call.code()) == (b"x", Code.OK)  # grpcio keeps no details of success


def test_code_that_is_none(own: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_code("NOT_FOUND")
        return b""

    assert raised(lambda: own.call(behavior)).code() is Code.UNKNOWN


def test_abort(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("key", "value"),))
        context.abort(Code.PERMISSION_DENIED, "not for you")
        return b"never"

    error = raised(lambda: stage.call(behavior))
    assert error.code() is Code.PERMISSION_DENIED
    assert error.details() == "not for you"
    assert ("key", "value") in error.trailing_metadata()
    assert caplog.records == []


def test_abort_of_a_stream(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        context.abort(Code.DATA_LOSS, "half is gone")

    stream = stage.serve({"M": replies(behavior)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert next(stream) == b"1"
    error = raised(lambda: next(stream))
    assert (error.code(), error.details()) == (Code.DATA_LOSS, "half is gone")
    assert caplog.records == []


def test_abort_with_ok_is_a_failure(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.abort(Code.OK, "fine")
        return b""

    assert raised(lambda: stage.call(behavior)).code() is Code.UNKNOWN


def test_abort_with_status(stage: Stage) -> None:
    class Status(grpc.Status):
        code = Code.OUT_OF_RANGE
        details = "too far"
        trailing_metadata = (("key-bin", b"\0\xff"),)

    def behavior(request: bytes, context: Any) -> bytes:
        context.abort_with_status(Status())
        return b""

    error = raised(lambda: stage.call(behavior))
    assert (error.code(), error.details()) == (Code.OUT_OF_RANGE, "too far")
    assert ("key-bin", b"\0\xff") in error.trailing_metadata()


def test_caught_abort_still_counts(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        try:
            context.abort(Code.ABORTED, "caught")
        except Exception:
            return b"reply"
        return b""

    error = raised(lambda: stage.call(behavior))
    assert (error.code(), error.details()) == (Code.ABORTED, "caught")


def test_metadata(stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.extend(context.invocation_metadata())
        context.send_initial_metadata([("initial", "1"), ("initial-bin", b"\0")])
        context.set_trailing_metadata([("trailing", "2"), ("trailing", "3")])
        with pytest.raises(ValueError, match="nitial metadata"):
            context.send_initial_metadata([("initial", "too late")])
        return b""

    sent = [("key", "value"), ("key", "again"), ("raw-bin", b"\xff")]
    _, call = stage.call(behavior, metadata=sent)
    assert [item for item in found if item[0] in ("key", "raw-bin")] == sent
    assert all(item.key == item[0] and item.value == item[1] for item in found)
    initial = [tuple(item) for item in call.initial_metadata()]
    assert initial == [("initial", "1"), ("initial-bin", b"\0")]
    assert [tuple(item) for item in call.trailing_metadata()] == [
        ("trailing", "2"),
        ("trailing", "3"),
    ]


def test_initial_metadata_arrive_before_the_first_reply(stage: Stage) -> None:
    go_on = threading.Event()

    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        context.send_initial_metadata([("key", "value")])
        assert go_on.wait(DEADLINE)
        yield b"1"

    stream = stage.serve({"M": replies(behavior)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert ("key", "value") in stream.initial_metadata()
    go_on.set()
    assert list(stream) == [b"1"]


def test_bad_metadata(own: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))

    def behavior(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match="the key 'Upper'"):
            context.send_initial_metadata([("Upper", "x")])
        with pytest.raises(TypeError, match="must be str or bytes"):
            context.send_initial_metadata([("key", 5)])
        context.set_trailing_metadata([("Upper", "x")])
        return b""

    error = raised(lambda: own.call(behavior))
    assert error.code() is Code.UNKNOWN
    assert "trailing metadata that cannot be sent" in error.details()
    assert [type(error) for error in lost] == [ValueError]


def test_time_remaining(stage: Stage) -> None:
    found: list[float] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(context.time_remaining())
        return b""

    call = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M")
    call(b"", timeout=50)
    assert 0 < found[0] <= 51
    call(b"")
    # Without a deadline ours says None, as the documentation has it, and grpcio some decades.
    assert found[1] is None if stage.ours else found[1] > 1e9


def test_peer_and_identity(stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.extend([context.peer(), context.peer_identities(), context.peer_identity_key()])
        found.append(context.auth_context())
        return b""

    stage.call(behavior)
    assert found[0].startswith("unix:")
    assert found[1:3] == [None, None]
    assert found[3]["transport_security_type"] == [b"insecure"]
    assert "x509_common_name" not in found[3]


def test_peer_over_tcp(socket_dir: Path) -> None:
    found: list[str] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(context.peer())
        return b""

    server = Server()
    port = server.add_insecure_port("127.0.0.1:0")
    assert port > 0
    server.add_registered_method_handlers("test.T", {"M": unary(behavior)})
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/test.T/M")(b"", timeout=DEADLINE)
    server.stop(None).wait(DEADLINE)
    assert found[0].startswith("ipv4:127.0.0.1:")


def test_cancel_by_the_server(stage: Stage) -> None:
    over = threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        assert context.is_active()
        context.add_callback(over.set)
        context.cancel()
        assert over.wait(DEADLINE)
        assert not context.is_active()
        return b""

    error = raised(lambda: stage.call(behavior))
    assert error.code() is Code.CANCELLED
    assert over.wait(DEADLINE)


def test_callbacks_run_at_the_end_of_the_call(stage: Stage) -> None:
    told: list[int] = []
    done = threading.Semaphore(0)
    contexts: list[Any] = []

    def tell(number: int) -> None:
        told.append(number)
        done.release()

    def behavior(request: bytes, context: Any) -> bytes:
        contexts.append(context)
        assert context.add_callback(lambda: tell(1)) is True
        assert context.add_callback(lambda: tell(2)) is True
        assert told == []
        return b""

    stage.call(behavior)
    for _ in range(2):
        assert done.acquire(timeout=DEADLINE)
    assert sorted(told) == [1, 2]
    assert contexts[0].is_active() is False
    assert contexts[0].add_callback(lambda: tell(3)) is False
    assert sorted(told) == [1, 2]


def test_callback_that_raises(own: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))
    done = threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(fail)
        context.add_callback(done.set)
        return b""

    own.call(behavior)
    assert done.wait(DEADLINE)
    assert [type(error) for error in lost] == [LookupError]


def test_callbacks_are_called_or_refused(own: Stage) -> None:
    """Wherever the end of the call falls: whoever was told True is called."""
    problems: list[str] = []
    finished = threading.Semaphore(0)

    def behavior(request: bytes, context: Any) -> bytes:
        def add() -> None:
            while True:
                called = threading.Event()
                if not context.add_callback(called.set):
                    break
                calls.append(called)
            if not all(called.wait(DEADLINE) for called in calls):
                problems.append("a callback was lost")
            finished.release()

        calls: list[threading.Event] = []
        threading.Thread(target=add).start()
        return b""

    call = own.serve({"M": unary(behavior)}).unary_unary("/test.T/M")
    for _ in range(30):
        call(b"", timeout=DEADLINE)
        assert finished.acquire(timeout=2 * DEADLINE)
    assert problems == []


@pytest.mark.parametrize("algorithm", list(grpc.Compression))
def test_compression(stage: Stage, algorithm: grpc.Compression) -> None:
    def one(request: bytes, context: Any) -> bytes:
        context.set_compression(algorithm)
        return b"x" * 100_000

    def many(request: bytes, context: Any) -> Iterator[bytes]:
        context.set_compression(algorithm)
        context.send_initial_metadata([("key", "value")])
        for number in range(4):
            if number % 2:
                context.disable_next_message_compression()
            yield b"x" * 100_000

    channel = stage.serve({"One": unary(one), "Many": replies(many)})
    assert channel.unary_unary("/test.T/One")(b"", timeout=DEADLINE) == b"x" * 100_000
    stream = channel.unary_stream("/test.T/Many")(b"", timeout=DEADLINE)
    assert list(stream) == [b"x" * 100_000] * 4


def test_compression_that_is_none(own: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match=r"grpc\.Compression, not 9"):
            context.set_compression(9)
        with pytest.raises(TypeError):
            context.set_compression("gzip")
        return b""

    own.call(behavior)


# ---- Interceptors -------------------------------------------------------------------------------


class Noting(grpc.ServerInterceptor):
    """Notes what it sees, and goes on."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = dict(details.invocation_metadata)
        self.seen.append((self.name, details.method, metadata.get("key")))
        return continuation(details)


def test_order_of_interceptors(stage: Stage) -> None:
    seen: list[Any] = []
    interceptors = [Noting("outer", seen), Noting("inner", seen)]
    channel = stage.serve({"M": unary(echo)}, interceptors=interceptors)
    call = channel.unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE, metadata=[("key", "value")]) == b"x"
    assert seen == [("outer", "/test.T/M", "value"), ("inner", "/test.T/M", "value")]


def test_interceptor_that_answers_itself(stage: Stage) -> None:
    seen: list[Any] = []

    class Guard(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            if dict(details.invocation_metadata).get("token") == "right":
                return continuation(details)

            def refuse(request: bytes, context: Any) -> Any:
                context.abort(Code.UNAUTHENTICATED, "who are you?")

            return unary(refuse)

    channel = stage.serve({"M": unary(echo)}, interceptors=[Guard(), Noting("inner", seen)])
    call = channel.unary_unary("/test.T/M")
    error = raised(lambda: call(b"", timeout=DEADLINE))
    assert (error.code(), error.details()) == (Code.UNAUTHENTICATED, "who are you?")
    assert seen == []
    assert call(b"x", timeout=DEADLINE, metadata=[("token", "right")]) == b"x"
    assert len(seen) == 1


def test_interceptors_see_registered_and_unknown_methods(own: Stage) -> None:
    seen: list[Any] = []
    server = own.make(interceptors=[Noting("only", seen)])
    server.add_registered_method_handlers("test.T", {"M": unary(echo)})
    server.start()
    channel = own.connect()
    channel.unary_unary("/test.T/M")(b"", timeout=DEADLINE)
    error = raised(lambda: channel.unary_unary("/test.T/No")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNIMPLEMENTED
    assert [method for _, method, _ in seen] == ["/test.T/M", "/test.T/No"]


def test_interceptors_are_checked() -> None:
    with pytest.raises(TypeError, match="intercept_service"):
        Server(interceptors=[object()])


# ---- Many at once -------------------------------------------------------------------------------


def test_blocked_handlers_run_side_by_side(stage: Stage) -> None:
    together = threading.Barrier(8)

    def behavior(request: bytes, context: Any) -> bytes:
        together.wait(DEADLINE)
        return request

    call = stage.serve({"M": unary(behavior)}, max_workers=8).unary_unary("/test.T/M")
    for _ in range(3):
        pending = [call.future(b"%d" % n, timeout=2 * DEADLINE) for n in range(8)]
        assert [f.result(2 * DEADLINE) for f in pending] == [b"%d" % n for n in range(8)]


def test_one_worker_runs_one_handler_at_a_time(own: Stage) -> None:
    inside = threading.Lock()

    def behavior(request: bytes, context: Any) -> bytes:
        assert inside.acquire(blocking=False)
        try:
            gc.collect()
            return request
        finally:
            inside.release()

    call = own.serve({"M": unary(behavior)}, max_workers=1).unary_unary("/test.T/M")
    pending = [call.future(b"%d" % n, timeout=DEADLINE) for n in range(20)]
    assert [f.result(DEADLINE) for f in pending] == [b"%d" % n for n in range(20)]


def test_health_answers_while_every_worker_is_blocked(own: Stage) -> None:
    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        entered.set()
        assert leave.wait(DEADLINE)
        return request

    server = own.make(max_workers=1)
    server.add_plugin_services("plugin")
    server.add_registered_method_handlers("test.T", {"M": unary(behavior)})
    server.start()
    channel = own.connect()
    blocked = [channel.unary_unary("/test.T/M").future(b"x", timeout=DEADLINE) for _ in range(3)]
    assert entered.wait(DEADLINE)
    health = health_pb2_grpc.HealthStub(channel)
    for _ in range(5):
        reply = health.Check(health_pb2.HealthCheckRequest(service="plugin"), timeout=DEADLINE)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    leave.set()
    assert [f.result(DEADLINE) for f in blocked] == [b"x"] * 3


def test_limit_of_concurrent_calls(stage: Stage) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        entered.release()
        assert leave.wait(DEADLINE)
        return request

    channel = stage.serve({"M": unary(behavior)}, maximum_concurrent_rpcs=2)
    call = channel.unary_unary("/test.T/M")
    accepted = [call.future(b"x", timeout=DEADLINE) for _ in range(2)]
    for _ in accepted:
        assert entered.acquire(timeout=DEADLINE)
    error = raised(lambda: call(b"", timeout=DEADLINE))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert error.details() == "Concurrent RPC limit exceeded!"
    leave.set()
    assert [f.result(DEADLINE) for f in accepted] == [b"x"] * 2


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"maximum_concurrent_rpcs": 0}])
def test_senseless_limits(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        Server(**options)  # type: ignore[arg-type]


def test_handler_may_call_its_own_server(own: Stage) -> None:
    """As plugins do that call back their host through the same process's channels."""
    channels: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        if not request:
            return b"0"
        call = channels[0].unary_unary("/test.T/M")
        return b"%d" % (1 + int(call(request[1:], timeout=DEADLINE)))

    channels.append(own.serve({"M": unary(behavior)}))
    assert channels[0].unary_unary("/test.T/M")(b"xxxxx", timeout=DEADLINE) == b"5"


# ---- Clients that go ----------------------------------------------------------------------------


def test_client_that_cancels(stage: Stage) -> None:
    entered, over = threading.Event(), threading.Event()
    found: list[bool] = []

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(over.set)
        entered.set()
        assert over.wait(DEADLINE)
        found.append(context.is_active())
        return b""

    future = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M").future(b"")
    assert entered.wait(DEADLINE)
    future.cancel()
    assert over.wait(DEADLINE)
    for server in stage.servers:
        server.stop(DEADLINE).wait(DEADLINE)
    assert found == [False]


def test_client_whose_deadline_passes(stage: Stage) -> None:
    over = threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(over.set)
        assert over.wait(DEADLINE)
        return b""

    call = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M")
    assert raised(lambda: call(b"", timeout=0.1)).code() is Code.DEADLINE_EXCEEDED
    assert over.wait(DEADLINE)


def test_client_gone_in_the_middle_of_replies(stage: Stage) -> None:
    closed, over = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(over.set)
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    channel = stage.serve({"M": replies(behavior)})
    stream = channel.unary_stream("/test.T/M")(b"")
    assert next(stream)
    channel.close()
    assert over.wait(DEADLINE)
    assert closed.wait(DEADLINE)


def test_client_gone_in_the_middle_of_requests(
    own: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """That is no end of the requests; grpcio cannot always tell the two apart."""
    entered, left = threading.Event(), threading.Event()
    found: list[BaseException] = []

    def behavior(incoming: Iterator[bytes], context: Any) -> bytes:
        try:
            for _ in incoming:
                entered.set()
        except Exception as error:
            found.append(error)
            raise
        finally:
            left.set()
        return b""

    more = threading.Event()

    def outgoing() -> Iterator[bytes]:
        yield b"1"
        more.wait(DEADLINE)

    call = own.serve({"M": requests(behavior)}).stream_unary("/test.T/M")
    future = call.future(outgoing())
    assert entered.wait(DEADLINE)
    future.cancel()
    assert left.wait(DEADLINE)
    more.set()
    assert isinstance(found[0], grpc.RpcError)
    assert own.servers[0].stop(DEADLINE).wait(DEADLINE)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


# ---- Life ---------------------------------------------------------------------------------------


def test_port_that_is_taken(socket_dir: Path) -> None:
    first, second = Server(), Server()
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError, match=f"Failed to bind to address 127.0.0.1:{port}"):
        second.add_insecure_port(f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match="Failed to bind"):
        second.add_insecure_port(f"unix:{socket_dir}/no/such/directory")


def test_socket_belongs_to_the_owner_alone(own: Stage, socket_dir: Path) -> None:
    own.serve({})
    assert (socket_dir / "0").stat().st_mode & 0o777 == 0o600


def test_several_addresses(own: Stage, socket_dir: Path) -> None:
    server = own.make()
    server.add_registered_method_handlers("test.T", {"M": unary(echo)})
    server.add_insecure_port(own.target(1))
    server.start()
    for number in range(2):
        assert own.connect(number).unary_unary("/test.T/M")(b"x", timeout=DEADLINE) == b"x"


def test_start_twice(stage: Stage) -> None:
    stage.serve({})
    with pytest.raises(ValueError, match="already"):
        stage.servers[0].start()


def test_stop_before_start(stage: Stage) -> None:
    server = stage.make()
    assert server.stop(None).wait(DEADLINE)
    assert server.stop(1).wait(DEADLINE)


def test_stop_when_nothing_runs(stage: Stage) -> None:
    call = stage.serve({"M": unary(echo)}).unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE) == b"x"
    server = stage.servers[0]
    assert server.wait_for_termination(0.01) is True
    assert server.stop(None).wait(DEADLINE)
    assert server.wait_for_termination(DEADLINE) is False
    assert server.wait_for_termination() is False
    assert server.stop(None).wait(DEADLINE)
    assert raised(lambda: call(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE


def blocking(stage: Stage) -> tuple[Any, threading.Event]:
    """A call whose handler waits for the event or for the end of the call, and has been entered."""
    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(leave.set)
        entered.set()
        assert leave.wait(DEADLINE)
        return b"done"

    future = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M").future(b"")
    assert entered.wait(DEADLINE)
    return future, leave


def test_stop_at_once_cancels(stage: Stage) -> None:
    future, _ = blocking(stage)
    assert stage.servers[0].stop(None).wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_stop_with_grace_lets_calls_end(stage: Stage) -> None:
    future, leave = blocking(stage)
    server = stage.servers[0]
    stopped = server.stop(10 * DEADLINE)
    assert not stopped.is_set()
    assert server.wait_for_termination(0.01) is True
    late = stage.channels[0].unary_unary("/test.T/M")
    assert raised(lambda: late(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE
    leave.set()
    assert future.result(DEADLINE) == b"done"
    assert stopped.wait(DEADLINE)
    assert server.wait_for_termination(DEADLINE) is False


def test_stop_cancels_when_the_grace_is_over(stage: Stage) -> None:
    future, _ = blocking(stage)
    assert stage.servers[0].stop(0.05).wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_second_stop_shortens_the_grace(stage: Stage) -> None:
    future, _ = blocking(stage)
    server = stage.servers[0]
    first = server.stop(100 * DEADLINE)
    assert server.stop(None).wait(DEADLINE)
    assert first.wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_stop_by_a_handler(own: Stage) -> None:
    servers: list[Any] = own.servers

    def behavior(request: bytes, context: Any) -> bytes:
        servers[0].stop(DEADLINE)
        return b"stopping"

    assert own.call(behavior)[0] == b"stopping"
    assert servers[0].wait_for_termination(DEADLINE) is False
    assert servers[0].join(DEADLINE) is True


def test_forgotten_server_stops(own: Stage) -> None:
    channel = own.serve({"M": unary(echo)})
    call = channel.unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE) == b"x"
    gone = weakref.ref(own.servers[0])
    own.servers.clear()
    gc.collect()
    assert gone() is None
    assert raised(lambda: call(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE


def test_forgotten_server_that_was_never_started(socket_dir: Path) -> None:
    for _ in range(3):
        server = Server()
        server.add_insecure_port(f"unix:{socket_dir}/socket")
        server.add_plugin_services("plugin")
        del server
        gc.collect()


def test_handlers_go_with_the_server(own: Stage, eventually: Any) -> None:
    class Servicer:
        def behavior(self, request: bytes, context: Any) -> bytes:
            return request

    servicer = Servicer()
    gone = weakref.ref(servicer)
    own.serve({"M": unary(servicer.behavior)}).unary_unary("/test.T/M")(b"", timeout=DEADLINE)
    del servicer
    own.servers.pop().stop(None).wait(DEADLINE)

    def collected() -> bool:
        gc.collect()
        return gone() is None

    eventually(collected, "the servicer's end")


# ---- What every plugin serves -------------------------------------------------------------------


@pytest.fixture
def plugin(own: Stage) -> Any:
    """A channel to a server with the plugin's services and the suite's own."""
    import kv_pb2_grpc
    import probe_pb2_grpc
    from servicers import KVServicer, ProbeServicer

    server = own.make()
    server.add_plugin_services("plugin")
    kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)
    probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(), server)
    server.start()
    return own.connect()


def test_health_check(plugin: Any) -> None:
    health = health_pb2_grpc.HealthStub(plugin)
    for service in ("plugin", ""):
        reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    unknown = health_pb2.HealthCheckRequest(service="unknown")
    assert raised(lambda: health.Check(unknown, timeout=DEADLINE)).code() is Code.NOT_FOUND


def test_health_watch(own: Stage, plugin: Any) -> None:
    health = health_pb2_grpc.HealthStub(plugin)
    known = health.Watch(health_pb2.HealthCheckRequest(service="plugin"))
    assert next(known).status == health_pb2.HealthCheckResponse.SERVING
    unknown = health.Watch(health_pb2.HealthCheckRequest(service="unknown"))
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    # A watch has no end of its own: it must not use up the grace of calls that have.
    assert own.servers[0].stop(100 * DEADLINE).wait(DEADLINE)
    error = raised(lambda: next(known))
    assert error.code() in (Code.UNAVAILABLE, Code.CANCELLED)


def test_controller(own: Stage, plugin: Any) -> None:
    plugin.unary_unary("/plugin.GRPCController/Shutdown")(b"", timeout=DEADLINE)
    assert own.servers[0].stopping() is True
    assert own.servers[0].wait_for_termination(DEADLINE) is False


SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "kv.KV",
    "plugin.GRPCController",
    "probe.Probe",
}


def test_reflection(plugin: Any) -> None:
    """With grpcio's own client, which speaks v1alpha."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    database = ProtoReflectionDescriptorDatabase(plugin)
    assert set(database.get_services()) >= SERVICES
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("probe.Probe")
    assert service.methods_by_name["Echo"].input_type.full_name == "probe.EchoRequest"
    assert pool.FindMessageTypeByName("probe.EchoReply").fields_by_name["payload"].number == 1
    with pytest.raises(KeyError):
        pool.FindServiceByName("probe.NoSuch")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_of_both_versions(plugin: Any, version: str) -> None:
    import reflection_pb2
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from grpc_reflection.v1alpha import reflection_pb2 as v1alpha_pb2

    pb: Any = reflection_pb2 if version == "v1" else v1alpha_pb2
    asked = [
        pb.ServerReflectionRequest(list_services=""),
        pb.ServerReflectionRequest(file_containing_symbol="kv.KV"),
        pb.ServerReflectionRequest(file_containing_symbol="kv.KV.Get"),
        pb.ServerReflectionRequest(file_by_filename="kv.proto"),
        pb.ServerReflectionRequest(file_containing_symbol="no.Such"),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="google.protobuf.FieldOptions"),
        pb.ServerReflectionRequest(),
    ]
    call = plugin.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    answers = list(call(iter(asked), timeout=DEADLINE))
    assert [answer.original_request for answer in answers] == asked
    assert {s.name for s in answers[0].list_services_response.service} >= SERVICES
    for answer in answers[1:4]:
        first = answer.file_descriptor_response.file_descriptor_proto[0]
        assert FileDescriptorProto.FromString(first).name == "kv.proto"
    assert answers[4].error_response.error_code == Code.NOT_FOUND.value[0]
    assert answers[5].all_extension_numbers_response.base_type_name
    assert answers[6].error_response.error_code != 0
