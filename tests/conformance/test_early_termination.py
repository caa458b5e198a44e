"""Streams that one side ends before the other is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, raised, replies, requests


def test_requests_end_with_the_call(channel: Any) -> None:
    """The iterator of requests is closed once the server has ended the call."""
    ended = threading.Event()

    def requests() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            ended.set()

    unknown = channel.stream_stream("/probe.Probe/Unknown")
    error = raised(lambda: next(unknown(requests(), timeout=DEADLINE)))
    assert error.code() is Code.UNIMPLEMENTED
    assert ended.wait(DEADLINE)


def test_handler_may_leave_requests_unread(stage: Stage) -> None:
    channel = stage.serve({"M": requests(lambda incoming, context: next(incoming))})
    endless = (b"%d" % number for number in range(1_000_000_000))
    assert channel.stream_unary("/test.T/M")(endless, timeout=DEADLINE) == b"0"


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
    our_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The iterator raises instead of ending; grpcio cannot always tell the two apart."""
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

    call = our_stage.serve({"M": requests(behavior)}).stream_unary("/test.T/M")
    future = call.future(outgoing())
    assert entered.wait(DEADLINE)
    future.cancel()
    assert left.wait(DEADLINE)
    more.set()
    assert isinstance(found[0], grpc.RpcError)
    assert our_stage.servers[0].stop(DEADLINE).wait(DEADLINE)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
