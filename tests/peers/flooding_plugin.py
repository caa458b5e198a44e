#!/usr/bin/env python3
"""A plugin that floods its host with frames of HTTP/2: flooding_plugin.py FLOOD.

The host's calls are never answered.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "kit"))

import http2

STATUS = http2.entry(b":status", b"200") + http2.entry(b"content-type", b"application/grpc")


def odd_headers() -> Iterator[bytes]:
    """Values that no such header may have, and more metadata than is accepted behind them."""
    names = [b":status", b"te", b":scheme", b":method", b"content-type", b"grpclb_client_stats"]
    names += [b"grpc-status", b"grpc-encoding", b"grpc-timeout", b"grpc-retry-pushback-ms"]
    block = STATUS + b"".join(http2.entry(name, b"x") for name in names)
    yield http2.frame(http2.HEADERS, 0, 1, block)
    for i in range(60):
        one = http2.entry(b"key%d" % i, b"v" * 9000)
        yield http2.frame(http2.CONTINUATION, 0, 1, one)
    yield http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1)


FLOODS = {
    "empty continuations": lambda: http2.empty_continuations(1, STATUS, 200_000),
    "endless number": lambda: http2.endless_number(1, 8 << 20),
    "odd headers": odd_headers,
    "pings": lambda: http2.pings(100_000),
    "settings": lambda: http2.settings(100_000),
    "continuations": lambda: http2.continuations(1, STATUS, 64 << 20),
    "endless header": lambda: http2.endless_header(1, STATUS, 2 << 20),
    "bomb": lambda: iter(
        [
            http2.frame(http2.HEADERS, 4, 1, STATUS + http2.entry(b"grpc-encoding", b"gzip")),
            http2.frame(http2.DATA, 0, 1, http2.message(http2.bomb(8 << 20), True)),
        ]
    ),
}


def main() -> None:
    path = os.path.join(tempfile.mkdtemp(prefix="plugin"), "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print(f"1|1|unix|{path}|grpc", flush=True)
    connection, _ = listener.accept()
    os.unlink(path)
    os.rmdir(os.path.dirname(path))
    connection.sendall(http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.SETTINGS, 1, 0))
    # Until the host has made a call, whose stream has the number 1.
    while b"Health/Check" not in connection.recv(1 << 16, socket.MSG_PEEK):
        pass
    connection.settimeout(20)
    with contextlib.suppress(OSError):
        for one in FLOODS[sys.argv[1]]():
            connection.sendall(one)
    connection.settimeout(None)
    while connection.recv(1 << 16):
        pass


main()
