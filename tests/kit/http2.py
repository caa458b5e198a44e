"""Frames of HTTP/2, for peers that do with them what no library would."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import BinaryIO

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _string(text: bytes, announced: int | None = None) -> bytes:
    size = len(text) if announced is None else announced
    if size < 127:
        return bytes([size]) + text
    prefix, size = b"\x7f", size - 127
    while size >= 128:
        prefix, size = prefix + bytes([size % 128 + 128]), size // 128
    return prefix + bytes([size]) + text


def entry(name: bytes, value: bytes, announced: int | None = None) -> bytes:
    """A header, neither indexed nor compressed; the value may be announced as longer than it is."""
    return b"\0" + _string(name) + _string(value, announced)


def request(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    entries = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]
    return b"".join(entry(*one) for one in entries)


def message(payload: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(payload)) + payload


def bomb(size: int) -> bytes:
    """So many zeros in gzip's form, a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


class Connection:
    """A connection to a server, without TLS. What the server sends is discarded, or not read."""

    def __init__(self, path: str, read: bool = True) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20 if read else 2)
        self._socket.connect(path)
        # The largest window, so that the server never waits for it to open.
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, (1 << 31) - 1)))
        self.send(frame(SETTINGS, ACK, 0))
        self._reader = threading.Thread(target=self._read)
        if read:
            self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(1 << 16):
                pass

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def flood(self, frames: Iterator[bytes]) -> None:
        """Send all frames, or as many as the server reads before it closes the connection."""
        with contextlib.suppress(OSError):
            kept = b""
            for one in frames:
                kept += one
                if len(kept) > 1 << 16:
                    self.send(kept)
                    kept = b""
            self.send(kept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.is_alive():
            self._reader.join()
        self._socket.close()


class Reading(Connection):
    """A connection that receives frames from the server, each within `patience` seconds."""

    def __init__(self, path: str, patience: float = 60.0) -> None:
        super().__init__(path, read=False)
        self._socket.settimeout(patience)
        self._frames = self._socket.makefile("rb")

    def receive(self) -> tuple[int, int, int, bytes] | None:
        """Kind, flags, stream and payload of the next frame; None if the server has hung up."""
        with contextlib.suppress(ConnectionError):
            if len(head := self._frames.read(9)) == 9:
                size, kind, flags, stream = struct.unpack(">IBBI", b"\0" + head)
                return kind, flags, stream, self._frames.read(size)
        return None

    def answers_ping(self) -> bool:
        """Whether the server answers a ping; False if it hangs up."""
        self.flood(iter([frame(PING, 0, 0, b"question")]))
        return self.receives(PING, 0)

    def receives(self, kind: int, stream: int) -> bool:
        """Whether such a frame comes; False if the server hangs up."""
        while (found := self.receive()) is not None:
            if found[0] == kind and found[2] == stream:
                return True
        return False

    def close(self) -> None:
        self._frames.close()
        super().close()


class Server:
    """A server for one connection on a unix socket, which answers every call by RST_STREAM.

    `after` is how many seconds each call lasts, counted from the arrival of its headers.
    """

    def __init__(self, path: str, code: int) -> None:
        self.after = 0.0
        self._code = code
        self._closed = threading.Event()
        self._connection: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._connection, _ = self._listener.accept()
            with self._connection as connection, connection.makefile("rb") as reader:
                self._answer(connection, reader)

    def _answer(self, connection: socket.socket, reader: BinaryIO) -> None:
        reader.read(len(PREFACE))
        connection.sendall(frame(SETTINGS, 0, 0))
        while head := reader.read(9):
            size, kind, flags, stream = struct.unpack(">IBBI", b"\0" + head)
            payload = reader.read(size)
            if kind in (SETTINGS, PING) and not flags & ACK:
                connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == HEADERS:
                self._closed.wait(self.after)
                reset = frame(RST_STREAM, 0, stream, struct.pack(">I", self._code))
                connection.sendall(reset)

    def close(self) -> None:
        self._closed.set()
        for one in (self._listener, self._connection):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


# ---- Floods, of either side ----------------------------------------------------------------------


def pings(count: int) -> Iterator[bytes]:
    return (frame(PING, 0, 0, b"12345678") for _ in range(count))


def settings(count: int) -> Iterator[bytes]:
    return (frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) for _ in range(count))


def continuations(stream: int, first: bytes, size: int) -> Iterator[bytes]:
    """A block of headers of about so many bytes, which does not end."""
    yield frame(HEADERS, 0, stream, first)
    block = b"".join(entry(b"key%d" % i, b"v" * 1000) for i in range(15))
    for _ in range(size // len(block)):
        yield frame(CONTINUATION, 0, stream, block)


def endless_header(stream: int, first: bytes, size: int) -> Iterator[bytes]:
    """One header of so many bytes."""
    yield frame(HEADERS, 0, stream, first + entry(b"key", b"", size))
    for _ in range(size >> 14):
        yield frame(CONTINUATION, 0, stream, b"v" * (1 << 14))


def endless_number(stream: int, size: int) -> Iterator[bytes]:
    """The length of a header's name, in about so many bytes."""
    yield frame(HEADERS, 0, stream, b"\0\x7f\x80\x80\x80\x80")
    for _ in range(size >> 14):
        yield frame(CONTINUATION, 0, stream, b"\x80" * (1 << 14))


def crumbs(stream: int, first: bytes, size: int) -> Iterator[bytes]:
    """One header of so many bytes, each in a frame of its own."""
    yield frame(HEADERS, 0, stream, first + entry(b"key", b"", size))
    one = frame(CONTINUATION, 0, stream, b"v")
    for _ in range(size - 1):
        yield one
    yield frame(CONTINUATION, END_HEADERS, stream, b"v")


def empty_continuations(stream: int, first: bytes, count: int) -> Iterator[bytes]:
    """A block of headers in so many frames, most of them empty."""
    yield frame(HEADERS, 0, stream, first)
    for _ in range(count):
        yield frame(CONTINUATION, 0, stream)
