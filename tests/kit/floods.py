"""What tests of floods share: peers that flood, and a host that behaves well beside them."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import http2
import probe_pb2

TIMEOUT = 60.0  # seconds, for a call beside a flood
ECHO = b"/probe.Probe/Echo"
FLOODER = Path(__file__).resolve().parents[1] / "peers" / "flooding_plugin.py"


def flood_server(path: str, frames: Callable[[], Iterator[bytes]], *reads: bool) -> None:
    """Floods a server by a connection for each of `reads`: whether it reads what is answered."""
    for read in reads:
        connection = http2.Connection(path, read)
        connection.flood(frames())
        connection.close()


def resets(count: int) -> Iterator[bytes]:
    """Calls that are reset as soon as they have begun."""
    for number in range(1, 2 * count, 2):
        yield http2.frame(http2.HEADERS, http2.END_HEADERS, number, http2.request(ECHO))
        yield http2.frame(http2.RST_STREAM, 0, number, struct.pack(">I", 8))


def answered_resets(count: int) -> Iterator[bytes]:
    """Calls that are reset after their whole request was sent."""
    for number in range(1, 2 * count, 2):
        yield http2.frame(http2.HEADERS, http2.END_HEADERS, number, http2.request(ECHO))
        yield http2.frame(http2.DATA, http2.END_STREAM, number, http2.message(b""))
        yield http2.frame(http2.RST_STREAM, 0, number, struct.pack(">I", 8))


class Good:
    """A well-behaved host, which calls all the time."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._calls = self._pool.submit(self._call)

    def _call(self) -> int:
        count = 0
        while count == 0 or not self._end.wait(0.005):
            assert self._probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload
            count += 1
        return count

    def end(self) -> int:
        """How many calls have been answered. Raises what one has failed with."""
        self._end.set()
        with self._pool:
            return self._calls.result(2 * TIMEOUT)
