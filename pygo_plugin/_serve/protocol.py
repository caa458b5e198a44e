"""What serving needs to know of the protocol that a plugin speaks with its host."""

from __future__ import annotations

from os import environ

from pygo_plugin.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar

    from pygo_plugin._base.core import _core
    from pygo_plugin._serve.stdio import Stdio
    from pygo_plugin.plugin import PluginBase
    from pygo_plugin.security import TLSConfig

__all__ = ["NoSocketError", "Protocol", "Security", "port_range", "socket_group"]


class Protocol:
    """How a plugin's server talks to its host. One object belongs to one server.

    `pygo_plugin.server` checks the cookie, chooses the version and the address, and writes the
    handshake line; everything that depends on the protocol is here. The methods are called in the
    order below, on the thread that serves. Only `stop` and `remove_sockets` may be called on any
    thread. Only `wait` waits.

    gRPC: `GrpcProtocol` (grpc_protocol.py), and its subclasses for servers of asyncio programs
    (aio_server.py) and for grpcio's servers (grpcio_protocol.py). net/rpc: `NetrpcProtocol`
    (netrpc_protocol.py), and its subclass for asyncio programs (aio_server.py).
    """

    name: ClassVar[str]
    """What the handshake line calls the protocol."""

    mux: _core.Mux | None = None
    """Carries all connections over one socket, if the host has asked for that; otherwise None."""

    def add_services(self, name: str, stdio: Stdio) -> None:
        """Add what every host expects: that it can ask for health, shut down, and get the output.

        `name` is that of the plugin's service, for protocols in which health has one.
        """
        raise NotImplementedError

    def register(self, plugins: Mapping[str, PluginBase]) -> None:
        """Have the plugins add what they serve, and give those that want it the broker.

        Raises: NoSocketError; what an author's method raises.
        """
        raise NotImplementedError

    def prepare_to_listen(self) -> str | None:
        """Prepare what listening needs, such as credentials.

        Returns: the directory for the plugin's socket, unless the host has named one; None: the
        temporary directory.
        Raises: OSError, RuntimeError, ValueError.
        """
        raise NotImplementedError

    def listen_unix(self, place: _core.SocketPlace) -> None:
        """Make the socket at `place`. Raises: OSError, RuntimeError."""
        raise NotImplementedError

    def listen_tcp(self, address: str) -> int:
        """Listen on "host:port". Returns: the port; 0 if it is in use.

        Raises: OSError, RuntimeError.
        """
        raise NotImplementedError

    def listens(self, network: str) -> None:
        """Have the broker, which listens too, use the same network as the plugin.

        Raises: ValueError if the host's variables for ports hold something else.
        """
        raise NotImplementedError

    def multiplexes(self) -> bool | None:
        """The handshake line's field about `mux`; None, and no field, if the host did not ask."""
        return None

    def start(self) -> Any:
        """Begin to serve. In asyncio programs a coroutine, as `wait` is."""
        raise NotImplementedError

    def log_to(self, descriptor: int) -> None:
        """Write warnings about connections to this descriptor, which leads to the host's log."""

    def stop(self, grace: float | None) -> Any:
        """Refuse new calls; cancel those that still run after `grace` seconds, None: at once.

        Returns: the event that is set when no call is left; None in asyncio programs.
        """
        raise NotImplementedError

    def cuts_output_off(self, grace: float | None) -> bool:
        """Whether `stop` cuts off the stream of printed output as it cuts off other calls.

        Otherwise the stream ends by itself, after the last handler.
        """
        raise NotImplementedError

    def deliver(self) -> None:
        """Wait a moment until what is on its way to the host is sent: this process is about to end.

        Nothing is with gRPC: its output has arrived once its stream has ended.
        """

    def remove_sockets(self) -> None:
        """Remove the sockets that the protocol has made itself. Idempotent."""

    def wait(self) -> Any:
        """Wait until the server has stopped and no handler runs."""
        raise NotImplementedError

    def has_connections(self) -> bool:
        """Whether there is something for `close` to close."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the broker and `mux`. Idempotent."""
        raise NotImplementedError


class Security:
    """What the plugin's connections are secured with: the author's TLS, AutoMTLS, or nothing."""

    __slots__ = ("config", "tls")

    def __init__(self, tls: _core.TLS | None = None, config: TLSConfig | None = None) -> None:
        self.tls = tls
        self.config = config  # what `tls` was made from; None: AutoMTLS

    def field(self) -> str | None:
        """The certificate for the handshake line, if it has one."""
        return None if self.tls is None else self.tls.field()

    def admits_only_hosts(self) -> bool:
        """Whether a client has to show a certificate, so that no other process can use TCP."""
        if self.config is not None:
            return self.config.roots is not None
        return self.tls is not None


class NoSocketError(StartError):
    """A socket inside this process cannot be made."""


def socket_group() -> str | None:
    """The group that may use the plugin's sockets, besides this user, if the host names one."""
    return environ.get("PLUGIN_UNIX_SOCKET_GROUP") or None


def port_range() -> tuple[int, int]:
    """The lowest and the highest TCP port that the host allows. Raises: ValueError."""
    return _port("PLUGIN_MIN_PORT", 1024), _port("PLUGIN_MAX_PORT", 65535)


def _port(variable: str, default: int) -> int:
    text = environ.get(variable)
    if not text:
        return default
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError(f"{variable} must be a port, but is {text!r}")
    return port
