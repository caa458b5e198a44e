"""A TCP proxy that counts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DEADLINE = 60.0


class Proxy:
    """Passes connections on to a port, or to the path of a unix socket, and counts their bytes."""

    def __init__(self, to: int | str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to = to
        self._lock = threading.Lock()
        self._counts = {"up": 0, "down": 0}
        self._threads: list[threading.Thread] = []
        self._sockets = [self._listener]
        self._start(self._accept)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._connect()
            self._sockets += [near, far]
            self._start(self._pump, near, far, "up")
            self._start(self._pump, far, near, "down")

    def _connect(self) -> socket.socket:
        if isinstance(self._to, int):
            return socket.create_connection(("127.0.0.1", self._to))
        far = socket.socket(socket.AF_UNIX)
        far.connect(self._to)
        return far

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    self._counts[way] += len(data)
                sink.sendall(data)
        except OSError:
            pass
        with_shutdown(sink)

    def take(self) -> tuple[int, int]:
        """Bytes (up, down) since the last time."""
        with self._lock:
            taken = (self._counts["up"], self._counts["down"])
            self._counts.update(up=0, down=0)
        return taken

    def close(self) -> None:
        for each in self._sockets:
            with_shutdown(each)
            each.close()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


def with_shutdown(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
