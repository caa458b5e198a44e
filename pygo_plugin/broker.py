"""Further connections between host and plugin, in either direction: callbacks, streams, objects.

One side accepts connections under an id, and sends the id to the other side in a request or reply.
The other side dials the id. See docs/broker.md.
"""

from __future__ import annotations

import _thread  # threading is not imported at run time: a plugin's start would pay for it
import sys
import weakref

from pygo_plugin._base import at_exit
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.channel import Channel
from pygo_plugin._grpc.server import Server
from pygo_plugin.errors import BrokerError, ClosedError, ConfigTypeError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from io import BufferedReader, BufferedWriter
    from types import TracebackType
    from typing import Any, ClassVar, Literal, TypeVar, overload

    T = TypeVar("T")

__all__ = ["BrokerServer", "Broker", "Serving"]

DIAL_TIMEOUT = 5.0  # seconds, as with go-plugin
PORT_ATTEMPTS = 20  # another process may take a port after it was found free


class BrokerServer(Server):
    """A server for the id `id`, with the interface of `grpc.Server`.

    The broker keeps it until it is stopped, or the connection between host and plugin ends.
    """

    id: int
    _owner: Any = None  # a weak reference to its broker
    _place: _core.SocketPlace | None = None

    def _shown(self) -> str:
        return f"{type(self).__name__} for connection {self.id}"

    def stop(self, grace: float | None = None) -> threading.Event:
        """As Server.stop(). The socket has been removed when this returns."""
        return stop_server(self, super().stop, grace)


class BrokerBase:
    """The base class of the blocking broker and of asyncio's: what both have in common."""

    _PUBLIC: ClassVar[str]  # what repr() calls the class

    def __init__(
        self,
        core: _core.Broker,
        name: str,
        network: str = "unix",
        ports: tuple[int, int] = (0, 0),
        group: str | None = None,
        options: dict[str, Any] | None = None,
        directory: str | None = None,
    ) -> None:
        """`ports` are the lowest and the highest TCP port (0: any). `group` is the group that may
        use the unix sockets, and `directory` replaces the directory in which they are made.
        """
        self._core = core
        self._name = name
        self._network = network
        self._ports = ports
        self._group = group
        self._directory = directory
        self._options = options or {}  # of servers
        self._lock = _thread.allocate_lock()
        self._servers: dict[int, Any] = {}
        self._channels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._credentials: _core.ServerCredentials | None = None
        self._accepted: set[int] = set()
        self._closed = False
        self._disconnects = 0  # how often the other side has gone
        at_exit.register()
        this = weakref.ref(self)  # weak, because the core keeps the function

        def disconnected() -> None:
            broker = this()
            if broker is not None:
                broker._disconnect_all()

        core.on_gone(disconnected)

    def use(self, network: str, ports: tuple[int, int]) -> None:
        """Listen on this kind of address from now on: "unix" or "tcp"."""
        self._network, self._ports = network, ports

    def next_id(self) -> int:
        """A new id, under which a connection can be accepted."""
        return self._core.next_id()

    def close(self) -> None:
        """Stop all servers and close all channels. Later uses raise ClosedError. Idempotent.

        The host's client calls it when it is killed.
        """
        self._closed = True
        for channel in self._stop_all():
            channel.close()

    def _disconnect_all(self) -> None:
        """Stop all servers, and end the calls of all channels: the other side has gone.

        The channels' own connections end as well, but possibly later.
        """
        for channel in self._stop_all(gone=True):
            channel._disconnect()

    def _stop_all(self, gone: bool = False) -> list[Any]:
        """Stop all servers. Returns: all channels, which the caller has to end."""
        with self._lock:
            self._disconnects += gone
            servers = list(self._servers.values())
            self._servers.clear()
            channels = list(self._channels)
        for server in servers:
            server._core.stop(None)
            _remove_socket(server)
        return channels

    def _check_usable(self) -> None:
        if _core.forked():
            self._core.dial(0, 0)  # raises ForkedError
        if self._closed:
            raise ClosedError(self._named("the broker is closed: its client has been killed"))

    def _check_id(self, service_id: Any, hint: str) -> None:
        if not 0 < service_id < 1 << 32:
            raise BrokerError(self._named(f"{service_id!r} is not a valid id; {hint}"))

    def _check_dial(self, service_id: Any) -> None:
        self._check_usable()
        self._check_id(service_id, "dial an id that the other side has sent")

    def _named(self, message: str) -> str:
        return f"{self._name}: {message}" if self._name else message

    def _listen(self, server: Any, service_id: int) -> None:
        """Have the server listen, and tell the other side where."""
        self._check_usable()
        self._check_id(service_id, "take one from next_id()")
        with self._lock:
            if service_id in self._accepted:
                raise BrokerError(
                    self._named(f"connection {service_id} has been accepted before; take a new id")
                )
            self._accepted.add(service_id)
        server.id = service_id
        server._owner = weakref.ref(self)
        try:
            network, address = self._bind(server)
        except OSError as error:
            _remove_socket(server)
            raise BrokerError(
                self._named(f"connection {service_id} cannot be accepted: {error}")
            ) from error
        with self._lock:
            self._servers[service_id] = server
        try:
            self._check_usable()  # again: close() may have run before the server was added
            self._core.announce(service_id, network, address)
        except BaseException:
            self._forget(server)
            server._core.stop(None)
            raise

    def _forget(self, server: Any) -> None:
        """Remove a server that has been stopped."""
        with self._lock:
            self._servers.pop(server.id, None)
        self._core.forget(server.id)
        _remove_socket(server)

    def _bind(self, server: Any) -> tuple[str, str]:
        """Have the server listen. Returns: network and address. Raises: OSError."""
        if self._credentials is None:
            self._credentials = self._core.server_credentials()
        credentials = self._credentials
        if self._network == "unix" or self._core.multiplexed:
            group = None if self._core.multiplexed else self._group
            place = _core.SocketPlace(self._core.directory or self._directory, group)
            server._place = place
            server._core.listen(place.target, credentials)
            place.publish()
            return "unix", place.path
        low, high = self._ports
        for attempt in range(PORT_ATTEMPTS):
            wanted = _core.listen_port(low, high) if low else 0
            try:
                port = server._core.listen(f"127.0.0.1:{wanted}", credentials)
            except OSError:
                if attempt == PORT_ATTEMPTS - 1:
                    raise
                continue
            return "tcp", f"127.0.0.1:{port}"
        raise AssertionError("unreachable")

    def _server_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The keywords for a server. The user's channel arguments come after the broker's."""
        made = {**self._options, **options}
        if options.get("options"):
            made["options"] = (*self._options.get("options", ()), *options["options"])
        return made

    def _opened(self, channel: Any, service_id: int, disconnects: int) -> Any:
        """Add a channel to those that end with the broker.

        `disconnects` is how often the other side had gone before the channel was dialled.
        """
        channel._peer = self._named(f"connection {service_id}")
        with self._lock:
            self._channels.add(channel)
            gone = self._disconnects != disconnects
        if self._closed:
            channel.close()
        elif gone:
            channel._disconnect()
        return channel

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"serving {sorted(self._servers)}"
        name = f" of {self._name!r}" if self._name else ""
        return f"<{self._PUBLIC}{name}, {state}>"

    __reduce_ex__ = refuse_copy


class Broker(BrokerBase):
    """Makes further connections to the other side.

    A host has it as `client.broker`. Plugins get it in `Plugin.grpc_server(broker, server)` and
    `Plugin.grpc_client(broker, channel)`. Any thread may use it. Its servers and channels end when
    the connection between host and plugin ends.
    """

    _PUBLIC = "broker.Broker"

    def accept(self, service_id: int, **options: Any) -> BrokerServer:
        """A server that the other side reaches by dialling `service_id`.

        Add servicers to it, then start it. `options` are those of `rpc.server`: `max_workers`,
        `interceptors` and so on. Each id can be accepted once.

        Raises: BrokerError; ClosedError after the client's `kill()`.
        """
        server = BrokerServer(**self._server_options(options))
        self._listen(server, service_id)
        return server

    def accept_and_serve(self, service_id: int, register: Any, **options: Any) -> BrokerServer:
        """Start a server that the other side reaches by dialling `service_id`.

        `register` is a servicer, a list of servicers, or a function that is called with the server
        and adds servicers to it. The broker keeps the server until its `stop()`.
        """
        server = BrokerServer(**self._server_options(options))
        register_all(server, register)
        self._listen(server, service_id)
        server.start()
        return server

    def dial(self, service_id: int, timeout: float = DIAL_TIMEOUT) -> Channel:
        """Connect to what the other side accepts under `service_id`, within `timeout` seconds.

        Each id can be dialled once. The channel carries any number of calls.

        Raises: BrokerError if the connection cannot be made, with the reason.
        """
        self._check_dial(service_id)
        disconnects = self._disconnects
        opened = _core.call_blocking(self._core.dial, service_id, timeout)
        channel: Channel = self._opened(opened, service_id, disconnects)
        return channel

    # Objects instead of connections.

    def serve(self, *servicers: Any, **options: Any) -> Serving:
        """Serve servicers while a `with` block runs. Its variable is the id to pass on.

        with broker.serve(AddHelper()) as id:
            counter.Put(PutRequest(add_server=id))
        """
        return Serving(self.accept_and_serve(self.next_id(), list(servicers), **options))

    def stub(self, service_id: int, stub: Callable[[Any], T], timeout: float = DIAL_TIMEOUT) -> T:
        """Dial `service_id`, and make a stub of the channel."""
        factory = getattr(stub, "Stub", stub)  # of a pygo_plugin.Service
        return factory(self.dial(service_id, timeout))

    def serve_io(self, file: Any, **options: Any) -> Serving:
        """Let the other side read from, or write to, a binary file object of this side.

        Used as `serve()`. When the other side closes its end, the file is flushed, not closed.
        """
        with _importing("pygo_plugin._grpc.broker_files"):
            from pygo_plugin._grpc.broker_files import FileServicer

        return self.serve(FileServicer(file), **options)

    if TYPE_CHECKING:

        @overload
        def open_io(
            self, service_id: int, mode: Literal["rb", "r"] = "rb", timeout: float = DIAL_TIMEOUT
        ) -> BufferedReader: ...
        @overload
        def open_io(
            self, service_id: int, mode: Literal["wb", "w"], timeout: float = DIAL_TIMEOUT
        ) -> BufferedWriter: ...
        @overload
        def open_io(
            self, service_id: int, mode: str, timeout: float = DIAL_TIMEOUT
        ) -> BufferedReader | BufferedWriter: ...

    def open_io(
        self, service_id: int, mode: str = "rb", timeout: float = DIAL_TIMEOUT
    ) -> BufferedReader | BufferedWriter:
        """Open the file that the other side serves under `service_id`, with mode "rb" or "wb".

        Returns: a buffered binary file object. Closing it sends what its buffer holds, and closes
        the connection.
        """
        with _importing("pygo_plugin._grpc.broker_files"):
            from pygo_plugin._grpc.broker_files import open_file

        return open_file(self.dial, service_id, mode, timeout)


class Serving:
    """A server that runs while a `with` block does. Entering the block returns its id."""

    def __init__(self, server: BrokerServer) -> None:
        self.server = server
        self.id = server.id

    def __enter__(self) -> int:
        return self.id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving. Calls that still run are cancelled."""
        self.server.stop(None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.server!r}>"

    __reduce_ex__ = refuse_copy


def stop_server(server: Any, stop: Callable[[float | None], T], grace: float | None) -> T:
    """Stop a BrokerServer by the method of its base class, and have its broker forget it."""
    stopped = stop(grace)
    owner = server._owner and server._owner()
    if owner:
        owner._forget(server)
    return stopped


def _remove_socket(server: Any) -> None:
    """Remove the server's socket. gRPC would do so too, but later."""
    if server._place is not None:
        server._place.remove()


def register_all(server: Any, register: Any) -> None:
    """Add what accept_and_serve() takes: a servicer, a list of them, or a function."""
    for servicer in register if isinstance(register, (list, tuple)) else (register,):
        adder = _adder(servicer)
        if adder is not None:
            adder(servicer, server)
        elif callable(servicer):
            servicer(server)
        else:
            raise ConfigTypeError(
                f"{type(servicer).__name__} derives from no servicer class that grpcio or "
                f"pygo_plugin.service has made; pass a function that adds it to the server instead"
            )


def _adder(servicer: Any) -> Callable[[Any, Any], Any] | None:
    """The function that adds a servicer to a server, or None.

    It is a method of its service, or the function in the module of its generated base class.
    """
    add_plugin = getattr(servicer, "_add_to_server", None)
    if add_plugin is not None:
        return lambda _, server: add_plugin(server)
    service = getattr(type(servicer), "_service", None)
    if service is not None and hasattr(service, "add_to_server"):
        adder: Callable[[Any, Any], Any] = service.add_to_server
        return adder
    for base in type(servicer).__mro__:
        found = getattr(sys.modules.get(base.__module__), f"add_{base.__name__}_to_server", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None
