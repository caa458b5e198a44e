"""File objects across a brokered connection: client and servicer of pygo_plugin.File.

examples/streaming/file.proto defines the service. Its messages are small, and are encoded here by
hand, so that plugins need not import protobuf for them.
"""

from __future__ import annotations

import io

from pygo_plugin._grpc.handlers import MethodHandler
from pygo_plugin.errors import ConfigError, RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SERVICE = "pygo_plugin.File"
MAX_DATA = 1 << 20  # bytes in one message
BUFFER_SIZE = 256 * 1024  # bytes, of the buffered file objects
MODES = ("rb", "wb", "r", "w")
WRONG_MODE = 'a remote file is opened to read ("rb") or to write ("wb"), not {!r}'

_INTERNAL = 13


def encode_size(size: int) -> bytes:
    """Encode a ReadRequest or a WriteReply: an int64 with field number 1."""
    out = bytearray(b"\x08")
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def decode_size(message: bytes) -> int:
    """Decode a ReadRequest or a WriteReply: the int64 with field number 1, by default 0."""
    return int(_fields(message).get(1, 0))


def encode_data(data: Any) -> bytes:
    """Encode a ReadReply or a WriteRequest: bytes with field number 1."""
    return b"\x0a" + encode_size(len(data))[1:] + bytes(data)


def decode_data(message: bytes) -> bytes:
    """Decode a ReadReply or a WriteRequest: the bytes with field number 1, by default empty."""
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
    """Reads and writes a file object for the other side."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def _add_to_server(self, server: Any) -> None:
        handlers = {"Read": self._read, "Write": self._write, "Close": self._close}
        server.add_registered_method_handlers(
            SERVICE, {name: MethodHandler(unary_unary=method) for name, method in handlers.items()}
        )

    def _read(self, request: bytes, context: Any) -> bytes:
        size = min(max(decode_size(request), 1), MAX_DATA)
        # read1() returns what is available, where read() on a pipe would wait for `size` bytes.
        read = getattr(self._file, "read1", self._file.read)

        def read_some() -> bytes:
            data = read(size)
            if data is None:  # not sent as empty bytes, which mean the end of the file
                raise BlockingIOError("the file is not blocking, and has nothing to read yet")
            return encode_data(data)

        return self._abort_on_error(context, read_some)

    def _write(self, request: bytes, context: Any) -> bytes:
        data = decode_data(request)

        def write() -> bytes:
            written = 0
            while written < len(data):  # a raw file may write only a part
                taken = self._file.write(memoryview(data)[written:])
                if taken is None:
                    if isinstance(self._file, io.RawIOBase):
                        raise BlockingIOError("the file is not blocking, and takes no more yet")
                    taken = len(data) - written  # other files that return None write everything
                written += taken
            return encode_size(written)

        return self._abort_on_error(context, write)

    def _close(self, request: bytes, context: Any) -> bytes:
        def flush() -> bytes:
            self._file.flush()
            return b""

        return self._abort_on_error(context, flush) if hasattr(self._file, "flush") else b""

    def _abort_on_error(self, context: Any, function: Callable[[], bytes]) -> bytes:
        try:
            return function()
        except (OSError, ValueError) as error:  # ValueError: closed, or not opened for this
            context.abort(_INTERNAL, f"{type(error).__name__}: {error}")
            raise AssertionError("abort() raises") from error


def methods_of(channel: Any) -> dict[str, Any]:
    """The callables of the service by name. They take and return encoded messages."""
    return {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in ("Read", "Write", "Close")}


def failure(error: RpcError) -> str:
    """The message of the OSError for a call that failed."""
    return f"the other side's file: {error.details()}"


class _RawFile(io.RawIOBase):
    """The other side's file without a buffer: each read or write is one call."""

    def __init__(self, channel: Any, service_id: int, reads: bool) -> None:
        self.name = f"connection {service_id}"  # for repr() of the buffered file
        self._channel = channel
        self._reads = reads
        self._methods = methods_of(channel)

    def readable(self) -> bool:
        return self._reads

    def writable(self) -> bool:
        return not self._reads

    def readinto(self, buffer: Any) -> int:
        data = decode_data(self._call("Read", encode_size(min(len(buffer), MAX_DATA))))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        part = memoryview(data).cast("B")[:MAX_DATA]
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
) -> io.BufferedReader | io.BufferedWriter:
    """Open the other side's file. See Broker.open_io()."""
    if mode not in MODES:
        raise ConfigError(WRONG_MODE.format(mode))
    raw = _RawFile(dial(service_id, timeout), service_id, mode[0] == "r")
    if mode[0] == "r":
        return io.BufferedReader(raw, BUFFER_SIZE)
    return io.BufferedWriter(raw, BUFFER_SIZE)
