"""What tests of the broker share: ways to connect, plugins to connect with, and what may leak."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import broker_plugin
import exercise
import pytest
from broker_plugin import HANDSHAKE, BrokerPlugin, Test, add, add_all
from own_runner import Own
from proxy import Proxy

from pygo_plugin import Client

TIMEOUT = 60.0

# How a host may connect to its plugin: options of Client, and names of the Go host's.
HOW: dict[str, dict[str, bool]] = {
    "plain": {},
    "mtls": {"auto_mtls": True},
    "multiplexed": {"broker_multiplex": True},
    "multiplexed mtls": {"broker_multiplex": True, "auto_mtls": True},
}
OPTIONS: dict[str, Any] = {"handshake_config": HANDSHAKE, "plugins": {"test": BrokerPlugin()}}
PLUGIN = [sys.executable, broker_plugin.__file__]

each_connection = pytest.mark.parametrize("how", list(HOW.values()), ids=list(HOW))


class OverTCP(Own):
    """Puts a TCP proxy in front of a plugin that listens only on a unix socket, as Go's do."""

    proxy: Proxy | None = None

    def plugin_to_host(self, network: str, address: str) -> tuple[str, str]:
        self.proxy = Proxy(super().plugin_to_host(network, address)[1])
        return "tcp", f"127.0.0.1:{self.proxy.port}"

    def wait(self) -> int | None:
        status = super().wait()
        if self.proxy is not None:
            self.proxy.close()
        return status


def target(peers: Any, plugin: str, network: str, multiplex: bool, *arguments: str) -> Any:
    """What to give a Client: a command, or a runner."""
    if plugin == "python":
        return [*PLUGIN, "--network", network, *arguments]
    if network == "tcp" and multiplex:
        return OverTCP(peers.plugin("go", *arguments))
    return peers.plugin("go", "--network", network, *arguments)


def client_of(*arguments: str, **options: Any) -> Client:
    return Client([*PLUGIN, *arguments], **OPTIONS, **options)


@contextlib.contextmanager
def launching() -> Iterator[Callable[..., Client]]:
    """A function that starts clients, which are killed in the end."""
    clients: list[Client] = []

    def launch(*arguments: str, **options: Any) -> Client:
        client = client_of(*arguments, **options)
        clients.append(client)
        client.start()
        return client

    yield launch
    for client in clients:
        client.kill()
    clients.clear()


def echo(server: Any) -> None:
    add(server, Echo=lambda data: b"host: " + data)


def accept_hanging(broker: Any) -> tuple[Any, threading.Event, threading.Event]:
    """Serve a method Hang, which waits until its call has ended.

    Returns: the server; events that are set when a call has reached the method, and has ended.
    """
    entered, ended = threading.Event(), threading.Event()

    def hang(request: bytes, context: Any) -> bytes:
        context.add_callback(ended.set)
        entered.set()
        ended.wait(TIMEOUT)
        return b""

    def register(server: Any) -> None:
        from pygo_plugin._grpc.handlers import MethodHandler

        handlers = {"Hang": MethodHandler(unary_unary=hang)}
        server.add_registered_method_handlers(broker_plugin.SERVICE, handlers)

    return broker.accept_and_serve(broker.next_id(), register), entered, ended


def serve_all(server: Any) -> None:
    add_all(server, b"host: ")


def exercise_both_ways(broker: Any, test: Any) -> None:
    """Metadata, deadlines, cancellation, 5 MiB, and three services on one server."""
    with broker.serve(serve_all) as service_id:
        assert test.Exercise(b"%d" % service_id, timeout=TIMEOUT).decode() == exercise.ALL
    served = test.ServeAll(b"", timeout=TIMEOUT)
    with broker.dial(int(served)) as channel:
        assert exercise.exercise(channel) == exercise.ALL
    test.Stop(served, timeout=TIMEOUT)


# ---- Many ----------------------------------------------------------------------------------------


def call_back(broker: Any, test: Any) -> None:
    """The host serves, the plugin dials."""
    with broker.serve(echo) as service_id:
        number = b"%d" % service_id
        assert test.CallBack(number, timeout=TIMEOUT) == b"host: " + number


def call_dialled(broker: Any, test: Any) -> None:
    """The plugin serves, the host dials."""
    number = test.Serve(b"", timeout=TIMEOUT)
    with broker.dial(int(number)) as channel:
        assert Test(channel).Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
    test.Stop(number, timeout=TIMEOUT)


def at_once(count: int, once: Callable[[], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(once) for _ in range(count)]:
            done.result(2 * TIMEOUT)


class Census:
    """Compares the descriptors, threads and memory of a process with those before.

    Some of what has just ended may still be on its way, or be kept for the next time.
    """

    SOME = 12
    KIB = 12 << 10

    def __init__(self, count: Callable[[], list[int]]) -> None:
        self._count = count
        self._before = self._take()

    def _take(self) -> list[int]:
        gc.collect()
        return self._count()

    def same(self) -> bool:
        """For eventually()."""
        now = self._take()
        limits = [self.SOME, self.SOME, self.KIB]
        return all(n <= b + limit for n, b, limit in zip(now, self._before, limits))


def census_of(test: Any) -> Census:
    """Of the plugin."""
    return Census(lambda: [int(number) for number in test.Resources(b"").split()])
