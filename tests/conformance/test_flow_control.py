"""Streams whose two ends are not equally fast: what is between them stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from stage import DEADLINE, Stage, echo, replies, requests, streams, unary

SIZE = 100_000
COUNT = 1000
BOUND = 500  # messages; buffers of gRPC's and of the kernel's hold some dozens


class Counter:
    """How many messages one side has given away."""

    def __init__(self) -> None:
        self.value = 0

    def messages(self) -> Iterator[bytes]:
        for _ in range(COUNT):
            self.value += 1
            yield bytes(SIZE)

    def final(self, turn: Callable[[], Any]) -> int:
        """Its value once it no longer grows: not within a hundred calls of another method."""
        seen = -1
        while seen != self.value:
            seen = self.value
            for _ in range(100):
                turn()
        return seen


def test_a_slow_reader_of_replies(stage: Stage) -> None:
    sent = Counter()
    channel = stage.serve({
        "M": replies(lambda request, context: sent.messages()), "Echo": unary(echo)
    })  # fmt: skip
    stream = channel.unary_stream("/test.T/M")(b"", timeout=3 * DEADLINE)
    assert len(next(stream)) == SIZE
    turn = channel.unary_unary("/test.T/Echo")
    assert sent.final(lambda: turn(b"", timeout=DEADLINE)) < BOUND
    assert sum(len(reply) for reply in stream) == (COUNT - 1) * SIZE
    assert sent.value == COUNT


def test_a_slow_handler_of_requests(stage: Stage) -> None:
    sent, go_on = Counter(), threading.Event()

    def behavior(incoming: Iterator[bytes], context: Any) -> bytes:
        next(incoming)
        assert go_on.wait(2 * DEADLINE)
        return b"%d" % sum(len(request) for request in incoming)

    channel = stage.serve({"M": requests(behavior), "Echo": unary(echo)})
    future = channel.stream_unary("/test.T/M").future(sent.messages(), timeout=3 * DEADLINE)
    turn = channel.unary_unary("/test.T/Echo")
    assert sent.final(lambda: turn(b"", timeout=DEADLINE)) < BOUND
    go_on.set()
    assert int(future.result(3 * DEADLINE)) == (COUNT - 1) * SIZE
    assert sent.value == COUNT


def test_a_stream_that_neither_side_reads(stage: Stage) -> None:
    sent = Counter()
    channel = stage.serve({
        "M": streams(lambda incoming, context: incoming), "Echo": unary(echo)
    })  # fmt: skip
    stream = channel.stream_stream("/test.T/M")(sent.messages(), timeout=3 * DEADLINE)
    turn = channel.unary_unary("/test.T/Echo")
    assert sent.final(lambda: turn(b"", timeout=DEADLINE)) < BOUND
    assert sum(len(reply) for reply in stream) == COUNT * SIZE


def test_unread_streams_all_begin(stage: Stage) -> None:
    entered = threading.Semaphore(0)

    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        entered.release()
        yield from Counter().messages()

    method = stage.serve({"M": replies(behavior)}).unary_stream("/test.T/M")
    for _ in range(10):
        stuck = [method(b"", timeout=3 * DEADLINE) for _ in range(10)]
        for _ in stuck:
            assert entered.acquire(timeout=DEADLINE)
        for stream in stuck:
            stream.cancel()


def test_other_calls_go_on_beside_a_stream_that_waits(stage: Stage) -> None:
    sent = Counter()
    channel = stage.serve({
        "M": replies(lambda request, context: sent.messages()), "Echo": unary(echo)
    })  # fmt: skip
    stuck = [channel.unary_stream("/test.T/M")(b"", timeout=3 * DEADLINE) for _ in range(4)]
    for stream in stuck:
        assert next(stream)
    large = b"x" * (1 << 20)
    for _ in range(5):
        assert channel.unary_unary("/test.T/Echo")(large, timeout=DEADLINE) == large
    for stream in stuck:
        stream.cancel()
