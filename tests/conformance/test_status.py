"""What a handler ends its call with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, raised, replies


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


def test_details_can_be_read(our_stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(context.details())
        context.set_details("text")
        context.set_trailing_metadata([("key", "value")])
        found.extend([context.details(), context.trailing_metadata()])
        return b""

    our_stage.call(behavior)
    assert found == [None, "text", (("key", "value"),)]


def test_ok_with_details(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_code(Code.OK)
        context.set_details("fine")
        return b"x"

    reply, call = stage.call(behavior)
    assert (reply, call.code()) == (b"x", Code.OK)  # grpcio keeps no details of success


def test_code_that_is_none(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.set_code("NOT_FOUND")
        return b""

    assert raised(lambda: stage.call(behavior)).code() is Code.UNKNOWN


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


def test_abort_with_a_number(stage: Stage) -> None:
    """grpcio's server answers UNKNOWN to a code that is a number; its asyncio server accepts it."""

    def behavior(request: bytes, context: Any) -> bytes:
        context.abort(3, "wrong")
        return b"never"

    error = raised(lambda: stage.call(behavior))
    assert error.code() is (Code.INVALID_ARGUMENT if stage.ours else Code.UNKNOWN)
    assert error.details() == "wrong"


def test_caught_abort_still_counts(stage: Stage) -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        try:
            context.abort(Code.ABORTED, "caught")
        except Exception:
            return b"reply"
        return b""

    error = raised(lambda: stage.call(behavior))
    assert (error.code(), error.details()) == (Code.ABORTED, "caught")


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
