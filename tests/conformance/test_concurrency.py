"""Many calls at once."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

from stage import (
    DEADLINE,
    Code,
    Service,
    Stage,
    failure,
    raised,
    replies,
    requests,
    serving,
    unary,
)


def test_blocked_handlers_run_side_by_side(stage: Stage) -> None:
    together = threading.Barrier(8)

    def behavior(request: bytes, context: Any) -> bytes:
        together.wait(DEADLINE)
        return request

    call = stage.serve({"M": unary(behavior)}, max_workers=8).unary_unary("/test.T/M")
    for _ in range(3):
        pending = [call.future(b"%d" % n, timeout=2 * DEADLINE) for n in range(8)]
        assert [f.result(2 * DEADLINE) for f in pending] == [b"%d" % n for n in range(8)]


def test_one_worker_runs_one_handler_at_a_time(stage: Stage) -> None:
    inside = threading.Lock()

    def behavior(request: bytes, context: Any) -> bytes:
        assert inside.acquire(blocking=False)
        try:
            gc.collect()
            return request
        finally:
            inside.release()

    call = stage.serve({"M": unary(behavior)}, max_workers=1).unary_unary("/test.T/M")
    pending = [call.future(b"%d" % n, timeout=DEADLINE) for n in range(20)]
    assert [f.result(DEADLINE) for f in pending] == [b"%d" % n for n in range(20)]


def test_limit_of_concurrent_calls(stage: Stage) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        entered.release()
        assert leave.wait(DEADLINE)
        return request

    channel = stage.serve({"M": unary(behavior)}, maximum_concurrent_rpcs=2)
    call = channel.unary_unary("/test.T/M")
    accepted = [call.future(b"x", timeout=DEADLINE) for _ in range(2)]
    for _ in accepted:
        assert entered.acquire(timeout=DEADLINE)
    error = raised(lambda: call(b"", timeout=DEADLINE))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert error.details() == "Concurrent RPC limit exceeded!"
    leave.set()
    assert [f.result(DEADLINE) for f in accepted] == [b"x"] * 2


def test_handler_may_call_its_own_server(stage: Stage) -> None:
    """Handlers of plugins call back their host from the same process."""
    channels: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        if not request:
            return b"0"
        call = channels[0].unary_unary("/test.T/M")
        return b"%d" % (1 + int(call(request[1:], timeout=DEADLINE)))

    channels.append(stage.serve({"M": unary(behavior)}))
    assert channels[0].unary_unary("/test.T/M")(b"xxxxx", timeout=DEADLINE) == b"5"


def test_too_many_calls_at_once(client: Any, host: Any) -> None:
    inside, leave = threading.Event(), threading.Event()

    def block(request: bytes, context: Any) -> bytes:
        inside.set()
        assert leave.wait(DEADLINE)
        return request

    with (
        serving(host, service=Service(Block=block), maximum_concurrent_rpcs=1) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        blocked = channel.unary_unary("/t/Block").future(b"", timeout=DEADLINE)
        assert inside.wait(DEADLINE)
        assert failure(channel).code() is Code.RESOURCE_EXHAUSTED
        leave.set()
        assert blocked.result(DEADLINE) == b""


# ---- One worker ---------------------------------------------------------------------------------


def test_calling_back_to_a_server_without_a_free_worker(stage: Stage) -> None:
    """As with grpcio, the nested call waits for its own caller until its deadline passes."""
    channels: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        if request != b"nested":
            return request
        call = channels[0].unary_unary("/test.T/M")
        return str(raised(lambda: call(b"x", timeout=0.2)).code()).encode()

    channels.append(stage.serve({"M": unary(behavior)}, max_workers=1))
    call = channels[0].unary_unary("/test.T/M")
    assert call(b"nested", timeout=DEADLINE) == str(Code.DEADLINE_EXCEEDED).encode()
    assert call(b"after it", timeout=DEADLINE) == b"after it"


def test_calls_wait_for_a_long_one(stage: Stage) -> None:
    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        if request == b"long":
            entered.set()
            assert leave.wait(DEADLINE)
        return request

    call = stage.serve({"M": unary(behavior)}, max_workers=1).unary_unary("/test.T/M")
    long = call.future(b"long", timeout=2 * DEADLINE)
    assert entered.wait(DEADLINE)
    waiting = [call.future(b"%d" % n, timeout=2 * DEADLINE) for n in range(10)]
    late = raised(lambda: call(b"impatient", timeout=0.1))
    assert late.code() is Code.DEADLINE_EXCEEDED
    assert not any(future.done() for future in waiting)
    leave.set()
    assert long.result(DEADLINE) == b"long"
    assert [f.result(DEADLINE) for f in waiting] == [b"%d" % n for n in range(10)]


def test_calls_wait_for_a_stream_of_requests(stage: Stage) -> None:
    """The only worker is taken while the stream's handler waits for its client."""
    entered, more = threading.Event(), threading.Event()

    def join(messages: Iterator[bytes], context: Any) -> bytes:
        entered.set()
        return b"".join(messages)

    def slowly() -> Iterator[bytes]:
        yield b"a"
        assert more.wait(DEADLINE)
        yield b"b"

    handlers = {"M": unary(lambda request, context: request), "J": requests(join)}
    channel = stage.serve(handlers, max_workers=1)
    joined = channel.stream_unary("/test.T/J").future(slowly(), timeout=2 * DEADLINE)
    assert entered.wait(DEADLINE)
    waiting = channel.unary_unary("/test.T/M").future(b"x", timeout=2 * DEADLINE)
    more.set()
    assert joined.result(DEADLINE) == b"ab"
    assert waiting.result(DEADLINE) == b"x"


# ---- Short calls beside long ones ---------------------------------------------------------------


def test_short_calls_pass_long_ones(stage: Stage) -> None:
    """The long calls wait in their handler, compute, or stream all the time."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def block(request: bytes, context: Any) -> bytes:
        entered.release()
        assert leave.wait(2 * DEADLINE)
        return request

    def compute(request: bytes, context: Any) -> bytes:
        entered.release()
        while not leave.is_set():
            sum(range(1000))
        return request

    def flow(request: bytes, context: Any) -> Iterator[bytes]:
        entered.release()
        while not leave.is_set():
            yield request

    handlers = {
        "Block": unary(block),
        "Compute": unary(compute),
        "Flow": replies(flow),
        "M": unary(lambda request, context: request),
    }
    channel = stage.serve(handlers, max_workers=4)
    pending = [
        channel.unary_unary(f"/test.T/{name}").future(b"long", timeout=3 * DEADLINE)
        for name in ("Block", "Compute")
    ]
    flowing = channel.unary_stream("/test.T/Flow")(b"long", timeout=3 * DEADLINE)
    for _ in range(3):
        assert entered.acquire(timeout=DEADLINE)
    call = channel.unary_unary("/test.T/M")
    for number in range(50):
        assert next(flowing) == b"long"
        assert call(b"%d" % number, timeout=DEADLINE) == b"%d" % number
    assert not any(future.done() for future in pending)
    leave.set()
    assert [future.result(DEADLINE) for future in pending] == [b"long"] * 2
    assert set(flowing) <= {b"long"}
