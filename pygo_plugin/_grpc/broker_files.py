"""File objects across a brokered connection: the service pygo_plugin.File, in both roles.

Its messages are so small that they are written here by hand: the protobuf library would be a
dependency of every plugin that is given a file. examples/streaming/file.proto is what they are.
"""

from __future__ import annotations

import io

from pygo_plugin._grpc.handlers import MethodHandler
from pygo_plugin.errors import ConfigError, RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    RemoteFile = Union[io.BufferedReader, io.BufferedWriter]

SERVICE = "pygo_plugin.File"
MOST = 1 << 20  # bytes per message
BUFFER = 256 * 1024
MODES = ("rb", "wb", "r", "w")
WRONG_MODE = 'a remote file is opened to read ("rb") or to write ("wb"), not {!r}'

_INTERNAL = 13


def encode_size(size: int) -> bytes:
    """ReadRequest and WriteReply: one int64, number 1."""
    out = bytearray(b"\x08")
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def decode_size(message: bytes) -> int:
    """The int64 with number 1; 0 if it is not there."""
    return int(_fields(message).get(1, 0))


def encode_data(data: Any) -> bytes:
    """ReadReply and WriteRequest: one bytes field, number 1."""
    return b"\x0a" + encode_size(len(data))[1:] + bytes(data)


def decode_data(message: bytes) -> bytes:
    """The bytes with number 1; empty if they are not there."""
    return bytes(_fields(message).get(1, b""))


def _fields(message: bytes) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            fields[key >> 3], at = _varint(message, at)
        elif key & 7 == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field is longer than its message")
            fields[key >> 3] = message[at : at + length]
            at += length
        else:
            raise ValueError(f"a field of wire type {key & 7}")
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number without an end")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class FileServicer:
    """Reads from and writes to a file object for the other side."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def _add_to_server(self, server: Any) -> None:
        handlers = {"Read": self._read, "Write": self._write, "Close": self._close}
        server.add_registered_method_handlers(
            SERVICE, {name: MethodHandler(unary_unary=one) for name, one in handlers.items()}
        )

    def _read(self, request: bytes, context: Any) -> bytes:
        size = min(max(decode_size(request), 1), MOST)
        # What is there, rather than all of it: a pipe's reader must not wait for more.
        read = getattr(self._file, "read1", self._file.read)

        def some() -> bytes:
            data = read(size)
            if data is None:  # empty would say that this is the end
                raise BlockingIOError("the file is not blocking, and has nothing to read yet")
            return encode_data(data)

        return self._try(context, some)

    def _write(self, request: bytes, context: Any) -> bytes:
        data = decode_data(request)

        def write() -> bytes:
            written = 0
            while written < len(data):  # a raw file may take a part
                taken = self._file.write(memoryview(data)[written:])
                if taken is None:
                    if isinstance(self._file, io.RawIOBase):
                        raise BlockingIOError("the file is not blocking, and takes no more yet")
                    taken = len(data) - written  # of those who do not count it is everything
                written += taken
            return encode_size(written)

        return self._try(context, write)

    def _close(self, request: bytes, context: Any) -> bytes:
        def flush() -> bytes:
            self._file.flush()
            return b""

        return self._try(context, flush) if hasattr(self._file, "flush") else b""

    def _try(self, context: Any, function: Callable[[], bytes]) -> bytes:
        try:
            return function()
        except (OSError, ValueError) as error:  # ValueError: it is closed, or for the other use
            context.abort(_INTERNAL, f"{type(error).__name__}: {error}")
            raise AssertionError("abort() raises") from error


def methods_of(channel: Any) -> dict[str, Any]:
    """The callables of the service, by name; they take and give bytes."""
    return {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in ("Read", "Write", "Close")}


def failure(error: RpcError) -> str:
    """What an OSError says about a call that failed."""
    return f"the other side's file: {error.details()}"


class _Raw(io.RawIOBase):
    """One message per read or write; the buffer around it makes these large."""

    def __init__(self, channel: Any, reads: bool) -> None:
        self._channel = channel
        self._reads = reads
        self._methods = methods_of(channel)

    def readable(self) -> bool:
        return self._reads

    def writable(self) -> bool:
        return not self._reads

    def readinto(self, buffer: Any) -> int:
        data = decode_data(self._call("Read", encode_size(min(len(buffer), MOST))))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        part = memoryview(data).cast("B")[:MOST]
        return decode_size(self._call("Write", encode_data(part)))

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
            self._call("Close", b"")
        finally:
            self._channel.close()

    def _call(self, method: str, request: bytes) -> bytes:
        try:
            reply: bytes = self._methods[method](request)
        except RpcError as error:
            raise OSError(failure(error)) from error
        return reply


def open_file(
    dial: Callable[[int, float], Any], service_id: int, mode: str, timeout: float
) -> RemoteFile:
    """What Broker.open_io() returns."""
    if mode not in MODES:
        raise ConfigError(WRONG_MODE.format(mode))
    raw = _Raw(dial(service_id, timeout), mode[0] == "r")
    if mode[0] == "r":
        return io.BufferedReader(raw, BUFFER)
    return io.BufferedWriter(raw, BUFFER)
