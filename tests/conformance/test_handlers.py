"""Handlers: how they are found, what they take, return and raise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, echo, fail, raised, replies, requests, unary


def test_unary(stage: Stage) -> None:
    reply, call = stage.call(lambda request, context: request + b"!", b"x")
    assert (reply, call.code()) == (b"x!", Code.OK)


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
        named = f" ({path})" if stage.ours else ""
        assert error.details() == f"Method not found!{named}"
    stream = channel.stream_stream("/test.T/Other")(iter([b""] * 10), timeout=DEADLINE)
    assert raised(lambda: next(stream)).code() is Code.UNIMPLEMENTED


def test_failing_lookup(our_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            raise LookupError("no idea")

    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))
    server = our_stage.make()
    server.add_generic_rpc_handlers([Failing()])
    server.start()
    error = raised(lambda: our_stage.connect().unary_unary("/test.T/M")(b"", timeout=DEADLINE))
    assert error.code() is Code.UNKNOWN
    assert error.details() == "Exception in service handler!"
    assert [type(error) for error in lost] == [LookupError]


# ---- Serializers --------------------------------------------------------------------------------


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


def test_later_request_that_cannot_be_read(
    our_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Only our server: grpcio's sometimes does not stop after that."""
    handler = requests(lambda incoming, context: b"%d" % sum(incoming), request_deserializer=int)
    call = our_stage.serve({"M": handler}).stream_unary("/test.T/M")
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
    assert error.details().startswith("Failed to serialize response!")
    assert "by design" in caplog.text


@pytest.mark.parametrize("reply", [None, "text", 5])
def test_reply_of_the_wrong_type(
    our_stage: Stage, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = raised(lambda: our_stage.call(lambda request, context: reply))
    assert error.code() is Code.INTERNAL
    assert error.details().startswith("Failed to serialize response!")
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
    our_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            return "\udcff not UTF-8"

    def behavior(request: bytes, context: Any) -> bytes:
        raise Unprintable

    error = raised(lambda: our_stage.call(behavior))
    assert error.code() is Code.UNKNOWN
    assert error.details() == r"Exception calling application: \udcff not UTF-8"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_end_the_call_alone(
    our_stage: Stage, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        if request:
            raise kind
        return b"still here"

    channel = our_stage.serve({"M": unary(behavior)})
    call = channel.unary_unary("/test.T/M")
    assert raised(lambda: call(b"x", timeout=DEADLINE)).code() is Code.UNKNOWN
    assert call(b"", timeout=DEADLINE) == b"still here"


def test_a_servicer_without_the_method(stage: Stage) -> None:
    import probe_pb2
    import probe_pb2_grpc

    server = stage.make()
    probe_pb2_grpc.add_ProbeServicer_to_server(probe_pb2_grpc.ProbeServicer(), server)
    server.start()
    stub = probe_pb2_grpc.ProbeStub(stage.connect())
    for name, call in (
        ("Echo", lambda: stub.Echo(probe_pb2.EchoRequest(), timeout=DEADLINE)),
        ("Count", lambda: next(stub.Count(probe_pb2.CountRequest(), timeout=DEADLINE))),
        ("Sum", lambda: stub.Sum(iter(()), timeout=DEADLINE)),
    ):
        error = raised(call)
        assert error.code() is Code.UNIMPLEMENTED
        named = f" (/probe.Probe/{name})" if stage.ours else ""
        assert error.details() == f"Method not implemented!{named}"
