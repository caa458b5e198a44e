"""Bursts of messages: those that follow each other at once may go out together, but never late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from stage import DEADLINE, Stage, replies, requests, streams

COUNT = 100


def burst(count: int = COUNT) -> Iterator[bytes]:
    for number in range(count):
        yield b"%d" % number


NUMBERS = list(burst())


def test_what_a_handler_sends_before_it_blocks_arrives(stage: Stage) -> None:
    goes_on = threading.Event()

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        yield from burst()
        assert goes_on.wait(DEADLINE)
        yield from burst()

    call = stage.serve({"M": replies(handler)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert [next(call) for _ in range(COUNT)] == NUMBERS
    goes_on.set()
    assert list(call) == NUMBERS


def test_what_a_handler_sends_before_it_receives_arrives(stage: Stage) -> None:
    def handler(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in requests:
            yield from burst()

    arrived = threading.Semaphore(0)

    def ask() -> Iterator[bytes]:
        for _ in range(3):
            yield b""
            for _ in range(COUNT):
                assert arrived.acquire(timeout=DEADLINE)

    call = stage.serve({"M": streams(handler)}).stream_stream("/test.T/M")(ask(), timeout=DEADLINE)
    got = []
    for message in call:
        got.append(message)
        arrived.release()
    assert got == 3 * NUMBERS


def test_what_a_caller_sends_before_its_iterator_blocks_arrives(stage: Stage) -> None:
    arrived = threading.Event()

    def ask() -> Iterator[bytes]:
        yield from burst()
        assert arrived.wait(DEADLINE)
        yield b"end"

    def handler(requests: Iterator[bytes], context: Any) -> bytes:
        got = [next(requests) for _ in range(COUNT)]
        arrived.set()
        return b" ".join([*got, *requests])

    channel = stage.serve({"M": requests(handler)})
    answer = channel.stream_unary("/test.T/M")(ask(), timeout=DEADLINE)
    assert answer == b" ".join([*NUMBERS, b"end"])


@pytest.mark.parametrize("count", [1, 4, 5, 6, 31, 32, 33, 37, 38, 1000])
def test_the_end_comes_after_the_whole_burst(stage: Stage, count: int) -> None:
    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        context.set_trailing_metadata((("sent", str(count)),))
        yield from burst(count)

    call = stage.serve({"M": replies(handler)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert list(call) == list(burst(count))
    assert dict(call.trailing_metadata())["sent"] == str(count)


def test_bursts_of_many_calls_at_a_time(stage: Stage) -> None:
    goes_on = threading.Barrier(8)

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(5):
            yield from burst()
            goes_on.wait(DEADLINE)

    channel = stage.serve({"M": replies(handler)})
    calls = [channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE) for _ in range(8)]
    got: list[list[bytes]] = [[] for _ in calls]
    readers = [
        threading.Thread(target=lambda to, call: to.extend(call), args=(to, call))
        for to, call in zip(got, calls)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(DEADLINE)
    assert got == [5 * NUMBERS] * 8


def test_a_burst_to_a_reader_that_cancels(stage: Stage) -> None:
    ended = threading.Event()

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        while not ended.is_set():
            yield from burst()

    call = stage.serve({"M": replies(handler)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert next(call) == b"0"
    call.cancel()
    assert ended.wait(DEADLINE)
