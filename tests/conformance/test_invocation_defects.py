"""Calls that are made wrongly, and iterators and serializers that fail."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Lost, raised


def test_timeout_must_be_a_number(probe: Any, pb: Any) -> None:
    with pytest.raises(TypeError, match="str"):
        probe.Echo(pb.EchoRequest(), timeout="5")


def test_compression_must_be_known(our_probe: Any, pb: Any) -> None:
    with pytest.raises(ValueError, match=r"grpc\.Compression, not 17"):
        our_probe.Echo(pb.EchoRequest(), compression=17)
    with pytest.raises(TypeError):
        our_probe.Echo(pb.EchoRequest(), compression="gzip")


def test_credentials_need_tls(our_probe: Any, pb: Any) -> None:
    credentials = grpc.access_token_call_credentials("secret")
    with pytest.raises(ValueError, match="call credentials need a connection with TLS"):
        our_probe.Echo(pb.EchoRequest(), credentials=credentials)
    assert our_probe.Echo(pb.EchoRequest(), credentials=None, timeout=DEADLINE) is not None


def test_unknown_arguments(our_probe: Any, pb: Any) -> None:
    with pytest.raises(TypeError, match="no argument 'time_out'"):
        our_probe.Echo(pb.EchoRequest(), time_out=5)
    with pytest.raises(TypeError, match="two values for 'timeout'"):
        our_probe.Echo(pb.EchoRequest(), 5, timeout=5)
    with pytest.raises(TypeError, match="needs its request"):
        our_probe.Echo()
    with pytest.raises(TypeError, match="at most 6"):
        our_probe.Echo(pb.EchoRequest(), None, None, None, None, None, None)


def test_method_must_be_text(our_channel: Any) -> None:
    for name in (5, None):
        with pytest.raises(TypeError, match="must be a str like"):
            our_channel.unary_unary(name)
    assert raised(lambda: our_channel.unary_unary("/no/Such")(b"")).code() is Code.UNIMPLEMENTED


@pytest.mark.parametrize("message", ["text", None, 5, bytearray(b"x")])
def test_messages_that_are_no_bytes(our_channel: Any, message: Any) -> None:
    with pytest.raises(TypeError, match="without a serializer, messages must be bytes, not"):
        our_channel.unary_unary("/probe.Probe/Echo")(message)
    with pytest.raises(TypeError, match="messages must be bytes"):
        our_channel.unary_stream("/probe.Probe/Count")(message)


def refuse(message: Any) -> bytes:
    raise LookupError(message)


def test_serializer_that_fails(channel: Any) -> None:
    echo = channel.unary_unary("/probe.Probe/Echo", request_serializer=refuse)
    count = channel.unary_stream("/probe.Probe/Count", request_serializer=refuse)
    for call in (echo, echo.with_call, echo.future, count):
        error = raised(lambda call=call: call("the message"))  # type: ignore[misc]
        assert error.code() is Code.INTERNAL
        assert error.details().startswith("Exception serializing request!")
        assert (error.initial_metadata(), error.trailing_metadata()) == ((), ())
        assert "Exception serializing request!" in str(error)
    for make in (channel.unary_unary, channel.unary_stream):
        with pytest.raises(TypeError):
            make("/probe.Probe/Echo", request_serializer=str)(5)


def test_what_a_serializer_raises_is_the_cause(our_channel: Any) -> None:
    """Ours chains the exception as the cause; grpcio logs it."""
    error = raised(lambda: our_channel.unary_unary("/t/M", request_serializer=refuse)("text"))
    assert isinstance(error.__cause__, LookupError)
    assert isinstance(pickle.loads(pickle.dumps(error)), grpc.RpcError)
    with pytest.raises(TypeError, match="the serializer must return bytes, not str"):
        our_channel.unary_unary("/probe.Probe/Echo", request_serializer=str)(5)

    def interrupt(message: Any) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        our_channel.unary_unary("/t/M", request_serializer=interrupt)("text")


def test_serializer_that_fails_for_a_later_request(our_channel: Any, pb: Any, lost: Lost) -> None:
    def serialize(request: Any) -> bytes:
        return bytes(request.SerializeToString())

    total = our_channel.stream_unary("/probe.Probe/Sum", request_serializer=serialize)
    error = raised(lambda: total(iter([pb.SumRequest(value=1), None]), timeout=DEADLINE))
    assert error.code() is Code.INTERNAL
    assert error.details().startswith("Exception serializing request!")
    assert [type(error) for error in lost] == [AttributeError]


def test_deserializer_that_fails(our_channel: Any, pb: Any) -> None:
    def fail(message: bytes) -> Any:
        raise LookupError("unreadable")

    request = pb.EchoRequest().SerializeToString()
    echo = our_channel.unary_unary("/probe.Probe/Echo", response_deserializer=fail)
    for call in (echo, echo.with_call, lambda r: echo.future(r).result(DEADLINE)):
        with pytest.raises(LookupError, match="unreadable"):
            call(request)


def test_deserializer_that_fails_fails_a_future_for_good(our_channel: Any, pb: Any) -> None:
    def fail(message: bytes) -> Any:
        raise LookupError("unreadable")

    echo = our_channel.unary_unary("/probe.Probe/Echo", response_deserializer=fail)
    future = echo.future(pb.EchoRequest().SerializeToString())
    for _ in range(2):
        with pytest.raises(LookupError, match="unreadable"):
            future.result(DEADLINE)
    assert isinstance(future.exception(DEADLINE), LookupError)


def test_deserializer_that_fails_ends_a_stream(our_channel: Any, pb: Any) -> None:
    def fail(message: bytes) -> Any:
        raise LookupError("unreadable")

    count = our_channel.unary_stream("/probe.Probe/Count", response_deserializer=fail)
    stream = count(pb.CountRequest(n=3, delay_ms=1).SerializeToString(), timeout=DEADLINE)
    with pytest.raises(LookupError, match="unreadable"):
        next(stream)
    assert stream.code() is Code.CANCELLED
    assert stream.details() == "Exception deserializing response!"


@pytest.mark.parametrize("method", ["Sum", "Chat"])
def test_iterator_that_raises(our_probe: Any, pb: Any, lost: Lost, method: str) -> None:
    def requests() -> Iterator[Any]:
        yield pb.SumRequest() if method == "Sum" else pb.ChatMessage()
        raise LookupError("out of requests")

    def run() -> None:
        result = getattr(our_probe, method)(requests(), timeout=DEADLINE)
        for _ in result:
            pass

    error = raised(run)
    assert error.code() is Code.UNKNOWN
    assert error.details().startswith("Exception iterating requests!")
    assert "out of requests" in error.details()
    assert [type(error) for error in lost] == [LookupError]


def test_requests_of_any_iterable(our_probe: Any, pb: Any) -> None:
    assert our_probe.Sum([pb.SumRequest(value=3)], timeout=DEADLINE).total == 3
    with pytest.raises(TypeError, match="not iterable"):
        our_probe.Sum(5)
