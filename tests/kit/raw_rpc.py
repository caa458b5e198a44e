"""Both sides of net/rpc by hand, for peers that misbehave: heads and values of gob on a socket."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

from typing_extensions import Self

from pygo_plugin import gob

PATIENCE = 60.0  # seconds


@gob.struct
class Request:
    service_method: str = ""
    seq: gob.Uint = 0


@gob.struct
class Response:
    service_method: str = ""
    seq: gob.Uint = 0
    error: str = ""


@gob.struct
class Nothing:
    pass


class RawPeer:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self._file = connection.makefile("rwb")
        self._encoder = gob.Encoder(self._file)
        self._decoder = gob.Decoder(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *values: Any) -> None:
        """Send heads and values, each pair in one piece."""
        for value in values:
            self._encoder.encode(value)
        self._file.flush()

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, seq: int, value: Any) -> None:
        self.send(Request(method, seq), value)

    def answer(self, seq: int, value: Any, error: str = "", method: str = "") -> None:
        self.send(Response(method, seq, error), value)

    def read_request(self) -> tuple[str, int, Any]:
        head = self._decoder.decode(Request)
        return head.service_method, head.seq, self._decoder.decode()

    def read_answer(self) -> tuple[int, str, Any]:
        head = self._decoder.decode(Response)
        return head.seq, head.error, self._decoder.decode()

    def ends(self) -> bool:
        """Whether the other side ends the connection, after what it has sent."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


class RawListener:
    """A listening socket, for a client that connects to a server that misbehaves."""

    def __init__(self, path: str) -> None:
        self.address = f"unix:{path}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._socket.settimeout(PATIENCE)

    def accept(self) -> RawPeer:
        return RawPeer(self._socket.accept()[0])

    def close(self) -> None:
        self._socket.close()


def dial(address: str) -> RawPeer:
    """Connect to a server at "unix:/path"."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address[len("unix:") :])
    return RawPeer(connection)
