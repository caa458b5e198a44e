"""The threads that run handlers: how many there are, and what happens when there are no more."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import pytest
from grpc import unary_unary_rpc_method_handler as unary
from grpc_health.v1 import health, health_pb2

from pygo_plugin import aio, rpc
from pygo_plugin._grpc import server as grpc_server

DEADLINE = 60.0
MANY = 60  # more than a pool would have

Serving = Callable[..., AbstractContextManager[Any]]


class Blocking:
    """Two methods: Block waits, and Release ends that."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.leave = threading.Event()
        self.handlers = {"Block": unary(self.block), "Release": unary(self.release)}

    def block(self, request: bytes, context: Any) -> bytes:
        self.inside.release()
        assert self.leave.wait(2 * DEADLINE)
        return request

    def release(self, request: bytes, context: Any) -> bytes:
        self.leave.set()
        return request


class Passing(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return continuation(details)


@contextmanager
def blocking(handlers: Any, **options: Any) -> Iterator[Any]:
    server = rpc.server(**options)
    server.add_registered_method_handlers("t", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    assert server.stop(None).wait(DEADLINE)


@contextmanager
def intercepted(handlers: Any, **options: Any) -> Iterator[Any]:
    with blocking(handlers, interceptors=[Passing()], **options) as channel:
        yield channel


@contextmanager
def asynchronous(handlers: Any, **options: Any) -> Iterator[Any]:
    """An asyncio server, whose methods are no coroutines, with a loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def on_loop(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(DEADLINE)

    server = aio.server(**options)
    server.add_registered_method_handlers("t", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    on_loop(server.start())
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    on_loop(server.stop(None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()


@pytest.fixture(params=[blocking, intercepted, asynchronous])
def serving(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_calls_do_not_wait_for_handlers_that_block(serving: Serving) -> None:
    methods = Blocking()
    with serving(methods.handlers) as channel:
        block, release = channel.unary_unary("/t/Block"), channel.unary_unary("/t/Release")
        blocked = [block.future(b"x", timeout=2 * DEADLINE) for _ in range(MANY)]
        for _ in range(MANY):
            assert methods.inside.acquire(timeout=DEADLINE)
        assert release(b"", timeout=DEADLINE) == b""
        assert [call.result(DEADLINE) for call in blocked] == [b"x"] * MANY


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "pygo_plugin.server"]


@pytest.mark.parametrize("bounded", [False, True])
def test_the_default_limit_is_logged_each_time_it_is_reached(
    serving: Serving,
    bounded: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Any,
) -> None:
    """Only the default limit is logged; a limit that the author has set is not."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(grpc_server, "_WORKERS", 4)
    methods = Blocking()
    with serving(methods.handlers, **({"max_workers": 4} if bounded else {})) as channel:
        block = channel.unary_unary("/t/Block")
        for times in (1, 2):
            methods.leave.clear()
            blocked = [block.future(b"x", timeout=2 * DEADLINE) for _ in range(7)]
            for _ in range(4):
                assert methods.inside.acquire(timeout=DEADLINE)
            if not bounded:
                eventually(lambda times=times: len(warnings_of(caplog)) == times)
            methods.leave.set()
            assert [call.result(DEADLINE) for call in blocked] == [b"x"] * 7
            for _ in range(3):
                assert methods.inside.acquire(timeout=DEADLINE)
    assert len(warnings_of(caplog)) == (0 if bounded else 2)
    assert all("4 handlers" in text for text in warnings_of(caplog))


def test_as_many_handlers_run_as_the_author_allows() -> None:
    methods = Blocking()
    with blocking(methods.handlers, max_workers=3) as channel:
        block = channel.unary_unary("/t/Block")
        blocked = [block.future(b"x", timeout=2 * DEADLINE) for _ in range(6)]
        for _ in range(3):
            assert methods.inside.acquire(timeout=DEADLINE)
        assert not methods.inside.acquire(timeout=0.05)
        methods.leave.set()
        assert [call.result(DEADLINE) for call in blocked] == [b"x"] * 6


def test_watching_health_holds_no_worker(serving: Serving) -> None:
    servicer = health.HealthServicer()
    of_health: dict[str, Any] = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    handlers = {
        "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, **of_health),
        "Check": unary(servicer.Check, **of_health),
    }
    with serving(handlers, max_workers=2) as channel:
        watch, check = channel.unary_stream("/t/Watch"), channel.unary_unary("/t/Check")
        watches = [watch(b"", timeout=DEADLINE) for _ in range(8)]
        first = [next(call) for call in watches]
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        second = [next(call) for call in watches]
        assert [first, second] == [[b"\x08\x01"] * 8, [b"\x08\x02"] * 8]
        assert check(b"", timeout=DEADLINE) == b"\x08\x02"
        for call in watches:
            call.cancel()
