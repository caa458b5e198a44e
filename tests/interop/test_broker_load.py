"""Brokered connections under load, and where something is short: others go on."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import broker_plugin
import pytest
from broker_plugin import Test
from brokered import HOW, OPTIONS, TIMEOUT, at_once, call_back, echo, target

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

each_way = pytest.mark.parametrize("how", HOW)
each_plugin = pytest.mark.parametrize("plugin", ["python", "go"])


@pytest.fixture
def connect(make_client: Any, peers: Any) -> Any:
    """Starts a plugin, and gives its broker and its stub."""

    def connect(plugin: str, how: str) -> tuple[Any, Any]:
        command = target(peers, plugin, "unix", False)
        broker, test = make_client(command, **HOW[how], **OPTIONS).dispense("test")
        return broker, test

    return connect


@each_way
@each_plugin
def test_one_connection_from_eight_threads(plugin: str, how: str, connect: Any) -> None:
    broker, test = connect(plugin, how)
    with broker.dial(int(test.Serve(b"", timeout=TIMEOUT))) as channel:
        stub = Test(channel)

        def calls() -> None:
            for i in range(100):
                data = b"%d" % i * 1000
                assert stub.Echo(data, timeout=TIMEOUT) == b"plugin: " + data

        at_once(8, calls)


@each_way
@each_plugin
def test_an_unread_stream(plugin: str, how: str, connect: Any) -> None:
    """An unread stream blocks neither the next connection nor the first one."""
    import probe_pb2
    import probe_pb2_grpc

    broker, test = connect(plugin, how)
    stalled = broker.dial(int(test.ServeAll(b"", timeout=TIMEOUT)))
    busy = broker.dial(int(test.ServeAll(b"", timeout=TIMEOUT)))
    request = probe_pb2.CountRequest(n=400, size=100_000)
    numbers = probe_pb2_grpc.ProbeStub(stalled).Count(request, timeout=2 * TIMEOUT)
    assert next(numbers).number == 0
    payload = bytes(300_000)
    for _ in range(100):
        assert Test(busy).Echo(payload, timeout=TIMEOUT) == b"plugin: " + payload
        assert test.Echo(payload, timeout=TIMEOUT) == payload
    call_back(broker, test)
    assert [reply.number for reply in numbers] == list(range(1, 400))
    stalled.close()
    busy.close()


# ---- Descriptors ---------------------------------------------------------------------------------


class Descriptors:
    """Opens all descriptors that this process may have, and closes them again."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._taken: list[int] = []

    def take(self) -> None:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, self._limits[1]))
        try:
            while True:
                self._taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass

    def give_back(self) -> None:
        while self._taken:
            os.close(self._taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@pytest.fixture
def all_descriptors() -> Iterator[Descriptors]:
    descriptors = Descriptors()
    yield descriptors
    descriptors.give_back()


@pytest.mark.parametrize("how", ["plain", "multiplexed"])
def test_no_descriptor_for_a_connection(
    how: str, make_client: Any, all_descriptors: Descriptors
) -> None:
    """If a connection cannot be accepted, no thread spins and other connections go on.

    Of separate sockets, gRPC's listener may be lost with it (1.51 gives up); the next one is not.
    """
    from pygo_plugin._log import grpc  # noqa: F401  (which could not be opened later)

    command = [sys.executable, broker_plugin.__file__]
    broker, test = make_client(command, **HOW[how], **OPTIONS).dispense("test")
    call_back(broker, test)
    ended = threading.Event()
    first = test.Echo.future(b"", timeout=TIMEOUT)  # imports, which need descriptors
    first.add_done_callback(lambda call: ended.set())
    assert ended.wait(TIMEOUT)
    ended.clear()
    with broker.serve(echo) as service_id:
        all_descriptors.take()
        call = test.CallBack.future(b"%d" % service_id, timeout=TIMEOUT)
        call.add_done_callback(lambda call: ended.set())
        busy, passed = time.process_time(), time.monotonic()
        ended.wait(1)
        busy, passed = time.process_time() - busy, time.monotonic() - passed
        all_descriptors.give_back()
        assert busy < passed / 2 + 0.1
        call.cancel()
    for _ in range(3):
        call_back(broker, test)
