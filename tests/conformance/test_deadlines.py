"""Deadlines."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from stage import DEADLINE, Code, Stage, expired, raised, unary


@pytest.mark.parametrize("timeout", [0.05, 0, -1])
def test_timeout(probe: Any, pb: Any, timeout: float) -> None:
    error = raised(lambda: probe.Hang(pb.HangRequest(), timeout=timeout))
    assert error.code() is Code.DEADLINE_EXCEEDED
    assert error.details().lower() == "deadline exceeded"


def test_timeout_of_a_stream(probe: Any, pb: Any) -> None:
    stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000), timeout=0.05)
    assert raised(lambda: next(stream)).code() is Code.DEADLINE_EXCEEDED
    assert stream.code() is Code.DEADLINE_EXCEEDED


def test_the_server_knows_the_deadline(probe: Any, pb: Any) -> None:
    assert 0 < probe.Echo(pb.EchoRequest(), timeout=50).time_remaining_ms <= 51_000
    assert probe.Echo(pb.EchoRequest()).time_remaining_ms == -1
    assert probe.Echo(pb.EchoRequest(), timeout=None).time_remaining_ms == -1


def test_time_remaining(probe: Any, pb: Any) -> None:
    assert 0 < probe.Echo.future(pb.EchoRequest(), timeout=50).time_remaining() <= 50
    assert probe.Echo.future(pb.EchoRequest()).time_remaining() is None


@pytest.mark.parametrize("timeout", [float("inf"), 1e18, 3600 * 24 * 365])
def test_huge_timeouts(our_probe: Any, pb: Any, timeout: float) -> None:
    assert our_probe.Echo(pb.EchoRequest(payload=b"x"), timeout=timeout).payload == b"x"


def test_time_remaining_in_the_handler(stage: Stage) -> None:
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


def test_client_whose_deadline_passes(stage: Stage) -> None:
    entered, ended = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(ended.set)
        entered.set()
        assert ended.wait(DEADLINE)
        return b""

    call = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M")
    expired(lambda timeout: call(b"", timeout=timeout), entered)
    assert ended.wait(DEADLINE)
