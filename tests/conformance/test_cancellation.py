"""Calls that one side cancels."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, hang, none_hangs, raised, unary


def test_cancelled_future(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, eventually)
    assert future.cancel() is True
    for ask in (future.result, future.exception, future.traceback):
        with pytest.raises(grpc.FutureCancelledError):
            ask(DEADLINE)
    assert future.cancelled() is True
    assert future.done() is True
    assert future.code() is Code.CANCELLED
    assert future.details() == "Locally cancelled by application!"
    assert not future.cancel()
    eventually(lambda: none_hangs(probe), "the cancellation in the plugin")


def test_cancelled_by_the_server_is_a_failure(probe: Any, pb: Any) -> None:
    future = probe.Fail.future(pb.FailRequest(code=1, details="by the server"))
    error = future.exception(DEADLINE)
    assert error.code() is Code.CANCELLED
    assert error.details() == "by the server"
    assert future.cancelled() is False
    assert raised(future.result).code() is Code.CANCELLED


def test_forgotten_future_is_cancelled(probe: Any, pb: Any, eventually: Any) -> None:
    hang(probe, eventually)
    gc.collect()
    eventually(lambda: none_hangs(probe), "the cancellation in the plugin")


def test_half_read_stream_that_is_dropped(probe: Any, pb: Any, eventually: Any) -> None:
    ended = threading.Event()

    def requests() -> Iterator[Any]:
        try:
            while True:
                yield pb.ChatMessage()
        finally:
            ended.set()

    stream = probe.Chat(requests(), timeout=60)
    assert next(stream) is not None
    del stream
    gc.collect()
    assert ended.wait(DEADLINE)


def test_half_read_stream_with_a_callback_that_is_dropped(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    called_back = threading.Event()
    gone = weakref.ref(stream)
    stream.add_callback(called_back.set)
    del stream
    gc.collect()
    assert gone() is None
    assert called_back.wait(DEADLINE)


def test_dropped_unary_call_of_a_stream_of_requests(probe: Any, pb: Any) -> None:
    ended, release = threading.Event(), threading.Event()

    def requests() -> Iterator[Any]:
        try:
            yield pb.SumRequest()
            release.wait(DEADLINE)
            yield pb.SumRequest()
            yield pb.SumRequest()
        finally:
            ended.set()

    probe.Sum.future(requests())
    gc.collect()
    release.set()
    assert ended.wait(DEADLINE)


def test_cancelled_stream(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=1_000_000, delay_ms=1), timeout=60)
    next(stream)
    assert stream.cancel() is True
    error = raised(lambda: [None for _ in stream])
    assert error.code() is Code.CANCELLED
    assert stream.code() is Code.CANCELLED
    assert stream.details() == "Locally cancelled by application!"
    assert stream.is_active() is False


def test_cancelled_from_another_thread_while_waiting(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    timer = threading.Timer(0.05, stream.cancel)
    timer.start()
    assert raised(lambda: next(stream)).code() is Code.CANCELLED
    timer.join()


# ---- In the handler -----------------------------------------------------------------------------


def test_client_that_cancels(stage: Stage) -> None:
    entered, over = threading.Event(), threading.Event()
    found: queue.Queue[bool] = queue.Queue()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(over.set)
        entered.set()
        assert over.wait(DEADLINE)
        found.put(context.is_active())
        return b""

    future = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M").future(b"")
    assert entered.wait(DEADLINE)
    future.cancel()
    assert found.get(timeout=DEADLINE) is False


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
