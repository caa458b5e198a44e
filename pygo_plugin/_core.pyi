"""The C core. Private: everything public is exported by the package's Python modules."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

__version__: str

GRPC_VERSION: str

# One record of a plugin's stderr: level (as in `logging`, TRACE is 5), message, hclog's @module,
# the plugin's own time stamp in seconds since the epoch (0.0 if it sent none), structured fields.
LogRecord = tuple[int, str, str | None, float, dict[str, Any] | None]

def forked() -> bool:
    """Whether this process is a fork of the one that loaded the core."""

def kill_all() -> None:
    """Kill every running plugin of this process, in parallel. For interpreter exit."""

def shutdown() -> None:
    """End the core's threads that enter Python. For interpreter exit, after kill_all()."""

def handshake_line(version: int, network: str, address: str, protocol: str, /) -> bytes:
    """The line that a plugin prints for its host, with the newline."""

def negotiate(own: Sequence[int], offered: str | None, /) -> tuple[int, list[str]]:
    """The protocol version that a plugin serves, and notes about entries that were left out."""

def listen_path(directory: str | None, /) -> str:
    """A fresh unix socket path in `directory`, or in the temporary directory."""

def listen_port(min_port: int, max_port: int, /) -> int:
    """A TCP port on 127.0.0.1 that is free now. Raises OSError when there is none."""

def hclog_line(
    level: int, message: str, module: str | None, created: float, fields: dict[str, Any] | None, /
) -> bytes:
    """One hclog JSON line, with the newline."""

@final
class Client:
    """One plugin process as its host sees it."""

    def __init__(
        self,
        *,
        name: str,
        argv: Sequence[str] | None = None,
        env: Sequence[str] = (),
        directory: str | None = None,
        cookie_key: str = "",
        cookie_value: str = "",
        versions: Sequence[int] = (),
        protocols: Sequence[str] = ("grpc",),
        min_port: int = 10000,
        max_port: int = 25000,
        start_timeout: float = 60.0,
        reattach: tuple[str, str, str, int, int, bool] | None = None,
        log: Callable[[bytes | None, list[LogRecord]], int] | None = None,
        log_level: int = 5,
        log_buffer_size: int = 65536,
        want_raw: bool = False,
    ) -> None:
        """`reattach` is (network, address, protocol, version, pid, test). `log` returns the lowest
        level that it wants from now on."""
    def start(self) -> tuple[str, str, str, str, int]:
        """(network, address, gRPC target, protocol, application version). Idempotent."""
    def channel(self) -> Channel:
        """A new view of the one connection."""
    def ping(self, timeout: float) -> None: ...
    def kill(self) -> None: ...
    def exited(self) -> bool: ...
    @property
    def exit_status(self) -> int | None: ...
    @property
    def pid(self) -> int: ...

class Channel:
    """A gRPC channel with grpcio's interface (see pygo_plugin.rpc)."""

    def __init__(self, target: str, options: Sequence[tuple[str, str | int]] = ()) -> None: ...
    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> MultiCallable: ...
    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> MultiCallable: ...
    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> MultiCallable: ...
    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> MultiCallable: ...
    def close(self) -> None: ...
    def state(self, connect: bool = False) -> int: ...
    def wait_state(self, last: int, timeout: float | None = None) -> int: ...
