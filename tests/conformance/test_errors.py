"""Failed calls as the client sees them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from stage import DEADLINE, Code, Stage, raised, replies, requests, streams, unary

import pygo_plugin
from pygo_plugin import RpcError


def test_failure(probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=5, details="no such thing: \N{SNOWMAN}")
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    error = raised(lambda: probe.Fail(request, timeout=DEADLINE, metadata=metadata))
    assert error.code() is Code.NOT_FOUND
    assert error.details() == "no such thing: \N{SNOWMAN}"
    assert ("a", "1") in error.initial_metadata()
    assert ("b", "2") in error.trailing_metadata()
    assert isinstance(error, grpc.Call)
    assert "NOT_FOUND" in str(error)
    assert "no such thing" in str(error)
    assert "NOT_FOUND" in repr(error)


@pytest.mark.parametrize("number", range(1, 17))
def test_every_status_code(probe: Any, pb: Any, number: int) -> None:
    error = raised(lambda: probe.Fail(pb.FailRequest(code=number), timeout=DEADLINE))
    assert error.code().value[0] == number
    assert error.details() == ""


def test_failure_of_with_call_and_future(probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=9, details="not now")
    assert raised(lambda: probe.Fail.with_call(request)).code() is Code.FAILED_PRECONDITION
    future = probe.Fail.future(request)
    error = future.exception(DEADLINE)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is Code.FAILED_PRECONDITION
    assert error.details() == "not now"
    assert raised(future.result).code() is Code.FAILED_PRECONDITION
    assert future.code() is Code.FAILED_PRECONDITION
    assert future.details() == "not now"
    assert future.cancelled() is False
    assert future.done() is True
    future.traceback(DEADLINE)


def test_errors_are_ours_and_grpcios(our_probe: Any, pb: Any) -> None:
    error = raised(lambda: our_probe.Fail(pb.FailRequest(code=5, details="x"), timeout=DEADLINE))
    assert isinstance(error, RpcError)
    assert isinstance(error, pygo_plugin.PluginError)
    assert isinstance(error, grpc.Future)
    assert error.exception() is error
    assert error.debug_error_string()
    assert error.is_active() is False
    assert error.cancel() is False
    assert error.cancelled() is False
    assert error.done() is True
    assert error.running() is False
    assert error.time_remaining() > 0
    assert error.traceback() is error.__traceback__ is not None
    assert error.add_callback(print) is False
    called_with: list[Any] = []
    error.add_done_callback(called_with.append)
    assert called_with == [error]
    with pytest.raises(RpcError) as again:
        error.result()
    assert again.value is error


def test_errors_travel_in_pickles(our_probe: Any, pb: Any) -> None:
    request = pb.FailRequest(code=5, details="no such thing")
    metadata = (("want-trailing-b", "2"), ("want-trailing-c-bin", b"\0\xff"))
    error = raised(lambda: our_probe.Fail(request, timeout=DEADLINE, metadata=metadata))
    for _ in range(2):  # what came out of a pickle goes into the next
        text = str(error)
        error = pickle.loads(pickle.dumps(error))
        assert isinstance(error, RpcError)
        assert isinstance(error, grpc.RpcError)
        assert isinstance(error, grpc.Call)
        assert error.code() is Code.NOT_FOUND
        assert error.details() == "no such thing"
        assert set(error.trailing_metadata()) >= {("b", "2"), ("c-bin", b"\0\xff")}
        assert str(error) == text


# ---- What a status can say -----------------------------------------------------------------------


TEXTS = [
    "",
    "plain",
    "100 % of \\x25",
    "two\nlines\r\n",
    "\N{SNOWMAN} and \N{CAT FACE}",
    "tab\t\x7f",
    "x" * 4000,
]


@pytest.mark.parametrize("details", TEXTS)
def test_details_of_any_text(stage: Stage, details: str) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.abort(Code.NOT_FOUND, details)
        return b""

    error = raised(lambda: stage.call(behavior))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, details)


def test_empty_messages(stage: Stage) -> None:
    channel = stage.serve({
        "A": unary(lambda request, context: b""),
        "B": replies(lambda request, context: iter([b"", b""])),
        "C": requests(lambda incoming, context: b"%d" % len(list(incoming))),
        "D": streams(lambda incoming, context: incoming),
    })  # fmt: skip
    assert channel.unary_unary("/test.T/A")(b"", timeout=DEADLINE) == b""
    assert list(channel.unary_stream("/test.T/B")(b"", timeout=DEADLINE)) == [b"", b""]
    assert channel.stream_unary("/test.T/C")(iter([b"", b""]), timeout=DEADLINE) == b"2"
    assert list(channel.stream_stream("/test.T/D")(iter([b""] * 3), timeout=DEADLINE)) == [b""] * 3


# ---- Details of google.rpc -----------------------------------------------------------------------


def rich_status() -> Any:
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="wait a minute")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 60}))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUOTA", domain="test"))
    return status


def refuse(request: Any, context: Any) -> Any:
    context.abort_with_status(rpc_status.to_status(rich_status()))


def refuse_later(request: Any, context: Any) -> Iterator[bytes]:
    yield b"1"
    refuse(request, context)


def test_rich_status(stage: Stage) -> None:
    error = raised(lambda: stage.call(refuse))
    assert (error.code(), error.details()) == (Code.RESOURCE_EXHAUSTED, "wait a minute")
    found = rpc_status.from_call(error)
    assert found == rich_status()
    info = error_details_pb2.ErrorInfo()
    assert found.details[1].Unpack(info)
    assert (info.reason, info.domain) == ("QUOTA", "test")


def test_rich_status_of_all_forms(stage: Stage) -> None:
    channel = stage.serve({
        "A": unary(refuse), "B": replies(refuse_later), "C": requests(refuse),
        "D": streams(refuse_later),
    })  # fmt: skip
    future = channel.unary_unary("/test.T/A").future(b"", timeout=DEADLINE)
    assert rpc_status.from_call(future.exception(DEADLINE)) == rich_status()
    assert rpc_status.from_call(future) == rich_status()
    call = channel.stream_unary("/test.T/C")
    error = raised(lambda: call(iter([b""]), timeout=DEADLINE))
    assert rpc_status.from_call(error) == rich_status()
    for stream in (
        channel.unary_stream("/test.T/B")(b"", timeout=DEADLINE),
        channel.stream_stream("/test.T/D")(iter([b""]), timeout=DEADLINE),
    ):
        assert next(stream) == b"1"
        error = raised(lambda stream=stream: next(stream))
        assert rpc_status.from_call(error) == rich_status()
        assert rpc_status.from_call(stream) == rich_status()


def test_no_rich_status(stage: Stage) -> None:
    def plain(request: bytes, context: Any) -> bytes:
        context.abort(Code.RESOURCE_EXHAUSTED, "wait a minute")
        return b""

    assert rpc_status.from_call(raised(lambda: stage.call(plain))) is None


def test_a_rich_status_that_says_something_else(stage: Stage) -> None:
    def confused(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata(rpc_status.to_status(rich_status()).trailing_metadata)
        context.abort(Code.NOT_FOUND, "nowhere")
        return b""

    error = raised(lambda: stage.call(confused))
    with pytest.raises(ValueError, match="doesn't match"):
        rpc_status.from_call(error)
