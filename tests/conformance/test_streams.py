"""Streams of requests, of replies, and both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, raised, replies, requests, streams


def test_stream_of_replies(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=100), timeout=DEADLINE)
    assert iter(stream) is stream
    assert [reply.number for reply in stream] == list(range(100))
    assert stream.code() is Code.OK
    with pytest.raises(StopIteration):
        next(stream)


def test_stream_is_a_call(probe: Any, pb: Any, eventually: Any) -> None:
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    stream = probe.Count(pb.CountRequest(n=1, delay_ms=20), timeout=50, metadata=metadata)
    assert isinstance(stream, grpc.Call)
    assert isinstance(stream, grpc.RpcContext)
    called_back = threading.Event()
    assert stream.is_active() is True
    assert stream.add_callback(called_back.set) is True
    assert 0 < stream.time_remaining() <= 50
    assert ("a", "1") in stream.initial_metadata()
    assert len(list(stream)) == 1
    assert called_back.wait(DEADLINE)
    assert ("b", "2") in stream.trailing_metadata()
    assert stream.is_active() is False
    assert not stream.cancel()
    eventually(lambda: not stream.add_callback(print), "the refusal of callbacks")


def test_the_result_of_a_stream_is_none_of_its_replies(probe: Any, pb: Any) -> None:
    """Tracers ask for the result when the call ends, maybe before the last reply has been read."""
    for _ in range(200):
        stream = probe.Count(pb.CountRequest(n=2), timeout=DEADLINE)
        stream.add_done_callback(lambda call: call.result())
        assert [reply.number for reply in stream] == [0, 1]


def test_stream_that_fails_at_its_end(probe: Any, pb: Any) -> None:
    request = pb.CountRequest(n=3, fail_code=10, fail_details="half way")
    stream = probe.Count(request, timeout=DEADLINE)
    assert [next(stream).number for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        error = raised(lambda: next(stream))
        assert error.code() is Code.ABORTED
        assert error.details() == "half way"
    assert stream.code() is Code.ABORTED
    assert stream.details() == "half way"


def test_stream_of_requests(probe: Any, pb: Any) -> None:
    requests = [pb.SumRequest(value=value) for value in range(100)]
    assert probe.Sum(iter(requests), timeout=DEADLINE).total == 4950
    reply, call = probe.Sum.with_call(iter(requests), timeout=DEADLINE)
    assert (reply.count, call.code()) == (100, Code.OK)
    assert call.result() == reply
    assert probe.Sum.future(iter(requests)).result(DEADLINE).total == 4950
    assert probe.Sum(iter(()), timeout=DEADLINE).count == 0


def test_streams_both_ways(probe: Any, pb: Any) -> None:
    turn = threading.Semaphore(1)

    def requests() -> Iterator[Any]:
        for number in range(20):
            assert turn.acquire(timeout=DEADLINE)
            yield pb.ChatMessage(payload=b"%d" % number)

    found = []
    for reply in probe.Chat(requests(), timeout=DEADLINE):
        found.append(reply.payload)
        turn.release()
    assert found == [b"%d" % number for number in range(20)]


def test_large_streams_both_ways(probe: Any, pb: Any) -> None:
    """More than flow control lets through before the other side reads."""
    messages = [pb.ChatMessage(payload=bytes([n]) * (1 << 20)) for n in range(16)]
    stream = probe.Chat(iter(messages), timeout=DEADLINE)
    assert list(stream) == messages


# ---- Handlers -----------------------------------------------------------------------------------


def test_replies(stage: Stage) -> None:
    def count(request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    call = stage.serve({"M": replies(count)}).unary_stream("/test.T/M")
    assert list(call(b"100", timeout=DEADLINE)) == [b"%d" % number for number in range(100)]
    assert list(call(b"0", timeout=DEADLINE)) == []


def test_any_iterable_of_replies(our_stage: Stage) -> None:
    channel = our_stage.serve({"M": replies(lambda request, context: [b"1", b"2"])})
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
