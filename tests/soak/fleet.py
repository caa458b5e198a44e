"""The plugins that calls go to, and their violent ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import netrpc_peer
import probe_pb2 as pb
import probe_pb2_grpc
import pygo_plugin_peer
from calls import Problems

from pygo_plugin import Client, ClosedError, PluginError, RpcError, aio

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "tests" / "peers"

COMMANDS = {
    "python": [sys.executable, str(PEERS / "pygo_plugin_peer.py")],
    "asyncio": [sys.executable, str(Path(__file__).with_name("async_plugin.py"))],
    "go": [str(ROOT / "build" / "peers" / "plugin")],
    "netrpc": [sys.executable, str(PEERS / "netrpc_peer.py")],
    "go.netrpc": [str(ROOT / "build" / "peers" / "plugin"), "-netrpc", "1"],
}
NET_RPC = ("netrpc", "go.netrpc")


class Plugin:
    """One launch of a plugin, with clients for threads and for asyncio on its one connection."""

    plugins: Any = staticmethod(pygo_plugin_peer.plugins)
    protocol = "grpc"

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.doomed = False  # from just before it is made to end
        self.expected: set[int] = {0}  # its exit status
        options: Any = {
            "handshake_config": pygo_plugin_peer.HANDSHAKE,
            "plugins": self.plugins(),
            "allowed_protocols": [self.protocol],
        }
        self.blocking: Client = self.make_client(COMMANDS[kind], options)
        self.begin()

    def make_client(self, command: list[str], options: Any) -> Client:
        self.client = aio.Client(command, **options)
        return self.client._client

    def begin(self) -> None:
        """Start the plugin, and keep what calls need."""
        self.channel, self.probe = self.dispense()

    def dispense(self) -> tuple[Any, Any]:
        """A new channel for threads, and a stub on it. What the client dispenses is for asyncio."""
        channel = self.blocking.new_channel()
        return channel, probe_pb2_grpc.ProbeStub(channel)

    def check_alive(self, problems: Problems) -> None:
        if self.blocking.exited() and not self.doomed:
            problems.add(f"{self.blocking!r} has ended unasked: status {self.blocking.exit_status}")

    def end(self, how: str, problems: Problems) -> None:
        self.check_alive(problems)
        self.doomed = True
        if how == "signal":
            self.expected = {-signal.SIGKILL}
            os.kill(self.blocking.pid, signal.SIGKILL)
        elif how == "exit":
            self.expected = {3}
            self.exit(3)
        self.blocking.kill()
        status = self.blocking.exit_status
        # A plugin that is busy when it is asked to go may need more than its two seconds.
        if status not in self.expected | {-signal.SIGKILL}:
            problems.add(f"{self.blocking!r} ended with status {status} after {how}")

    def exit(self, status: int) -> None:
        """Have it end itself."""
        with contextlib.suppress(RpcError):
            self.probe.Exit(pb.ExitRequest(status=status))


class NetRpcPlugin(Plugin):
    """The same over net/rpc."""

    plugins = staticmethod(netrpc_peer.plugins)
    protocol = "netrpc"

    def make_client(self, command: list[str], options: Any) -> Client:
        return Client(command, **options)  # asyncio's has a broker for asyncio

    def begin(self) -> None:
        self.test = self.blocking.dispense("test")

    def exit(self, status: int) -> None:
        with contextlib.suppress(ClosedError):
            self.test.exit(status)


def launch(kind: str) -> Plugin:
    return NetRpcPlugin(kind) if kind in NET_RPC else Plugin(kind)


class Fleet:
    """A plugin of each kind that lasts, and one that does not."""

    def __init__(self, problems: Problems, random: random.Random) -> None:
        self._problems = problems
        self._random = random
        self._lock = threading.Lock()
        self._lasting = [launch(kind) for kind in COMMANDS]
        self._passing = [launch(kind) for kind in COMMANDS]

    def any(self, random: random.Random, *protocols: str) -> Plugin:
        """Any plugin that speaks one of the protocols."""
        with self._lock:
            plugins = self._lasting + self._passing
        plugin = random.choice([one for one in plugins if one.protocol in protocols])
        plugin.check_alive(self._problems)
        return plugin

    def lasting(self) -> list[int]:
        return [plugin.blocking.pid for plugin in self._lasting]

    def churn(self, stop: threading.Event) -> None:
        """End one plugin after the other, each in the middle of its calls, and replace it."""
        while not stop.wait(self._random.uniform(0.1, 0.8)):
            place = self._random.randrange(len(self._passing))
            old = self._passing[place]
            old.end(self._random.choice(["kill", "signal", "exit"]), self._problems)
            try:
                new = launch(old.kind)
            except PluginError as error:
                self._problems.add(f"{old.kind} does not start again: {error}")
                return
            with self._lock:
                self._passing[place] = new

    def close(self) -> None:
        for plugin in self._lasting + self._passing:
            plugin.end("kill", self._problems)
        self._lasting, self._passing = [], []
