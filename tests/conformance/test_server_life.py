"""The life of a server."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stage import DEADLINE, Code, Stage, echo, raised, unary


def test_port_that_is_taken(host: Any, socket_dir: Path) -> None:
    options = [("grpc.so_reuseport", 0)]
    first, second = (host.server(ThreadPoolExecutor(1), options=options) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError, match=f"Failed to bind to address 127.0.0.1:{port}"):
        second.add_insecure_port(f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match="Failed to bind"):
        second.add_insecure_port(f"unix:{socket_dir}/no/such/directory")


def test_several_addresses(stage: Stage, socket_dir: Path) -> None:
    server = stage.make()
    server.add_registered_method_handlers("test.T", {"M": unary(echo)})
    server.add_insecure_port(stage.target(1))
    server.start()
    for number in range(2):
        assert stage.connect(number).unary_unary("/test.T/M")(b"x", timeout=DEADLINE) == b"x"


def test_an_address_that_cannot_be_had(host: Any, tmp_path: Path) -> None:
    server = host.server(ThreadPoolExecutor(1))
    with pytest.raises(RuntimeError, match="Failed to bind"):
        server.add_insecure_port(f"unix:{tmp_path}/missing/s")


def test_start_twice(stage: Stage) -> None:
    stage.serve({})
    with pytest.raises(ValueError, match="already"):
        stage.servers[0].start()


def test_stop_before_start(stage: Stage) -> None:
    server = stage.make()
    assert server.stop(None).wait(DEADLINE)
    assert server.stop(1).wait(DEADLINE)


def test_stop_when_nothing_runs(stage: Stage) -> None:
    call = stage.serve({"M": unary(echo)}).unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE) == b"x"
    server = stage.servers[0]
    assert server.wait_for_termination(0.01) is True
    assert server.stop(None).wait(DEADLINE)
    assert server.wait_for_termination(DEADLINE) is False
    assert server.wait_for_termination() is False
    assert server.stop(None).wait(DEADLINE)
    assert raised(lambda: call(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE


def blocking(stage: Stage) -> tuple[Any, threading.Event]:
    """A call whose handler waits for the event or for the end of the call, and has been entered."""
    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(leave.set)
        entered.set()
        assert leave.wait(DEADLINE)
        return b"done"

    future = stage.serve({"M": unary(behavior)}).unary_unary("/test.T/M").future(b"")
    assert entered.wait(DEADLINE)
    return future, leave


def test_stop_at_once_cancels(stage: Stage) -> None:
    future, _ = blocking(stage)
    assert stage.servers[0].stop(None).wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_stop_with_grace_lets_calls_end(stage: Stage) -> None:
    future, leave = blocking(stage)
    server = stage.servers[0]
    stopped = server.stop(10 * DEADLINE)
    assert not stopped.is_set()
    assert server.wait_for_termination(0.01) is True
    late = stage.channels[0].unary_unary("/test.T/M")
    assert raised(lambda: late(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE
    leave.set()
    assert future.result(DEADLINE) == b"done"
    assert stopped.wait(DEADLINE)
    assert server.wait_for_termination(DEADLINE) is False


def test_stop_cancels_when_the_grace_is_over(stage: Stage) -> None:
    future, _ = blocking(stage)
    assert stage.servers[0].stop(0.05).wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_second_stop_shortens_the_grace(stage: Stage) -> None:
    future, _ = blocking(stage)
    server = stage.servers[0]
    first = server.stop(100 * DEADLINE)
    assert server.stop(None).wait(DEADLINE)
    assert first.wait(DEADLINE)
    assert future.exception(DEADLINE).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_stop_by_a_handler(our_stage: Stage) -> None:
    servers: list[Any] = our_stage.servers

    def behavior(request: bytes, context: Any) -> bytes:
        servers[0].stop(DEADLINE)
        return b"stopping"

    assert our_stage.call(behavior)[0] == b"stopping"
    assert servers[0].wait_for_termination(DEADLINE) is False
    assert servers[0].join(DEADLINE) is True


def test_forgotten_server_stops(our_stage: Stage) -> None:
    channel = our_stage.serve({"M": unary(echo)})
    call = channel.unary_unary("/test.T/M")
    assert call(b"x", timeout=DEADLINE) == b"x"
    gone = weakref.ref(our_stage.servers[0])
    our_stage.servers.clear()
    gc.collect()
    assert gone() is None
    assert raised(lambda: call(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE


def test_handlers_go_with_the_server(stage: Stage, eventually: Any) -> None:
    class Servicer:
        def behavior(self, request: bytes, context: Any) -> bytes:
            return request

    servicer = Servicer()
    gone = weakref.ref(servicer)
    stage.serve({"M": unary(servicer.behavior)}).unary_unary("/test.T/M")(b"", timeout=DEADLINE)
    del servicer
    stage.servers.pop().stop(None).wait(DEADLINE)

    def collected() -> bool:
        gc.collect()
        return gone() is None

    eventually(collected, "the servicer's end")
