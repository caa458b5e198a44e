"""Calls as futures, and their callbacks."""

from __future__ import annotations

import threading
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Lost, Stage, hang, unary


def test_future(probe: Any, pb: Any) -> None:
    future = probe.Echo.future(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
    assert isinstance(future, grpc.Future)
    assert isinstance(future, grpc.Call)
    assert future.result(DEADLINE).payload == b"x"
    assert future.result().payload == b"x"
    assert future.exception() is None
    assert future.traceback() is None
    assert future.code() is Code.OK
    assert future.done() is True
    assert future.running() is False
    assert future.is_active() is False
    assert future.cancelled() is False
    assert not future.cancel()


def test_the_traceback_of_a_failed_future(probe: Any, pb: Any) -> None:
    """Also if its exception has not been raised before."""
    future = probe.Fail.future(pb.FailRequest(code=5, details="none"), timeout=DEADLINE)
    assert isinstance(future.exception(DEADLINE), grpc.RpcError)
    for _ in range(2):
        assert isinstance(future.traceback(DEADLINE), types.TracebackType)
    with pytest.raises(grpc.RpcError):
        future.result(DEADLINE)


def test_future_gives_initial_metadata_before_the_reply(
    our_probe: Any, pb: Any, eventually: Any
) -> None:
    future = hang(our_probe, eventually, metadata=(("want-initial-a", "1"),))
    assert ("a", "1") in future.initial_metadata()
    assert future.running() is True
    future.cancel()


def test_future_that_takes_too_long(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, eventually)
    for ask in (future.result, future.exception, future.traceback):
        for timeout in (0, 0.01):
            with pytest.raises(grpc.FutureTimeoutError):
                ask(timeout=timeout)
    assert future.running() is True
    assert future.is_active() is True
    assert future.done() is False
    future.cancel()


def test_done_callbacks_run_once(probe: Any, pb: Any, eventually: Any) -> None:
    future = hang(probe, eventually)
    called: list[Any] = []
    done = threading.Semaphore(0)

    def call_back(who: Any) -> None:
        called.append(who)
        done.release()

    for _ in range(3):
        future.add_done_callback(call_back)
    assert future.add_callback(lambda: call_back("context")) is True
    assert called == []
    future.cancel()
    for _ in range(4):
        assert done.acquire(timeout=DEADLINE)
    assert called.count(future) == 3
    assert called.count("context") == 1
    # A callback that is added after the end is called at once, and no other with it.
    future.add_done_callback(call_back)
    assert called[4:] == [future]
    eventually(lambda: not future.add_callback(print), "the refusal of callbacks")


def test_done_callback_sees_a_finished_call(probe: Any, pb: Any) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def look(future: Any) -> None:
        seen.extend([future.done(), future.code(), future.result(0).payload])
        done.set()

    probe.Echo.future(pb.EchoRequest(payload=b"x", delay_ms=20)).add_done_callback(look)
    assert done.wait(DEADLINE)
    assert seen == [True, Code.OK, b"x"]


def test_callback_that_raises_keeps_none_from_the_others(
    our_probe: Any, pb: Any, eventually: Any, lost: Lost
) -> None:
    future = hang(our_probe, eventually)
    done = threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: done.set())
    future.cancel()
    assert done.wait(DEADLINE)
    assert [type(error) for error in lost] == [ZeroDivisionError]


def test_callbacks_added_while_calls_end(probe: Any, pb: Any) -> None:
    """Each of many callbacks runs once, whenever the call ends."""
    ran = threading.Semaphore(0)
    for _ in range(100):
        future = probe.Echo.future(pb.EchoRequest(), timeout=DEADLINE)
        for _ in range(5):
            future.add_done_callback(lambda _: ran.release())
    for _ in range(500):
        assert ran.acquire(timeout=DEADLINE)
    assert not ran.acquire(blocking=False)


def test_results_for_many_threads(probe: Any, pb: Any) -> None:
    future = probe.Echo.future(pb.EchoRequest(payload=b"x", delay_ms=20))
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(future.result(DEADLINE).payload))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x"] * 8


def test_a_result_that_another_thread_is_reading(stage: Stage) -> None:
    entered, leave = threading.Event(), threading.Event()

    def read(data: bytes) -> bytes:
        entered.set()
        assert leave.wait(DEADLINE)
        return data

    channel = stage.serve({"M": unary(lambda request, context: request)})
    future = channel.unary_unary("/test.T/M", None, read).future(b"x", timeout=2 * DEADLINE)
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(future.result, DEADLINE)]
        assert entered.wait(DEADLINE)
        results.append(threads.submit(future.result, DEADLINE))
        leave.set()
    assert [result.result() for result in results] == [b"x", b"x"]
