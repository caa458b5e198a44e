"""Further connections between host and plugin, in either direction: callbacks, streams, objects.

One side accepts connections under an id and gives the id to the other, as a field of some request;
the other side dials it. See docs/broker.md.
"""

from __future__ import annotations

import sys
import threading
import weakref

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.channel import Channel
from pygo_plugin._grpc.server import Server
from pygo_plugin.errors import BrokerError, ClosedError, ConfigTypeError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from pygo_plugin._grpc.broker_files import RemoteFile

    T = TypeVar("T")

__all__ = ["BrokerServer", "Broker", "Serving"]

DIAL_TIMEOUT = 5.0  # seconds, as with go-plugin
PORT_ATTEMPTS = 20  # a free port can be gone when it is listened on


class BrokerServer(Server):
    """A server that the other side reaches under `id`, with the interface of `grpc.Server`.

    It is kept until it is stopped, or the connection between host and plugin ends.
    """

    id: int
    _owner: Any = None  # a weak reference to its broker
    _place: _core.SocketPlace | None = None

    def stop(self, grace: float | None = None) -> threading.Event:
        """As Server.stop(); the socket is gone when this returns."""
        return _stop(self, super().stop, grace)


class BrokerBase:
    """What the brokers of threads and of asyncio have in common: all but dialling and serving."""

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
        """`ports` (0: any) are for TCP, `group` and `directory` for unix sockets: who may use them
        besides this user, and where they are instead of the usual directory."""
        self._core = core
        self._name = name
        self._network = network
        self._ports = ports
        self._group = group
        self._directory = directory
        self._options = options or {}  # of servers
        self._lock = threading.Lock()
        self._servers: dict[int, Any] = {}
        self._channels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._credentials: _core.ServerCredentials | None = None
        self._accepted: set[int] = set()
        self._closed = False
        at_exit.register()
        this = weakref.ref(self)  # the core keeps what it calls

        def gone() -> None:
            broker = this()
            if broker is not None:
                broker._drop_all()

        core.on_gone(gone)

    def use(self, network: str, ports: tuple[int, int]) -> None:
        """Listen on this kind of address from now on."""
        self._network, self._ports = network, ports

    def next_id(self) -> int:
        """An id to accept connections under, different each time."""
        return self._core.next_id()

    def close(self) -> None:
        """Stop every server, close every channel. Later uses raise ClosedError. Idempotent.

        The host's client does so when it is killed.
        """
        self._closed = True
        self._drop_all()

    def _drop_all(self) -> None:
        """The other side has gone: what was for it is of no use to anybody."""
        with self._lock:
            servers = list(self._servers.values())
            self._servers.clear()
            channels = list(self._channels)
        for server in servers:
            server._core.stop(None)
            _remove(server)
        for channel in channels:
            channel.close()

    def _check(self) -> None:
        if _core.forked():
            self._core.dial(0, 0)  # which raises
        if self._closed:
            raise ClosedError(self._named("the broker is closed, as its client has been killed"))

    def _check_id(self, service_id: Any, hint: str) -> None:
        if not 0 < service_id < 1 << 32:
            raise BrokerError(self._named(f"{service_id!r} is no id; {hint}"))

    def _check_dial(self, service_id: Any) -> None:
        self._check()
        self._check_id(service_id, "dial one that the other side has given")

    def _named(self, message: str) -> str:
        return f"{self._name}: {message}" if self._name else message

    def _listen(self, server: Any, service_id: int) -> None:
        """Have the server listen, and tell the other side where."""
        self._check()
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
            _remove(server)
            raise BrokerError(
                self._named(f"connection {service_id} cannot be accepted: {error}")
            ) from error
        with self._lock:
            self._servers[service_id] = server
        try:
            self._check()  # close() may not have seen this one
            self._core.announce(service_id, network, address)
        except BaseException:
            self._forget(server)
            server._core.stop(None)
            raise

    def _forget(self, server: Any) -> None:
        with self._lock:
            self._servers.pop(server.id, None)
        self._core.forget(server.id)
        _remove(server)

    def _bind(self, server: Any) -> tuple[str, str]:
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
        """What a server is made with: the user's options, those of gRPC's after the broker's."""
        made = {**self._options, **options}
        if options.get("options"):
            made["options"] = (*self._options.get("options", ()), *options["options"])
        return made

    def _opened(self, channel: Any) -> Any:
        with self._lock:
            self._channels.add(channel)
        if self._closed:
            channel.close()
        return channel

    def __repr__(self) -> str:
        serving = sorted(self._servers)
        return f"<{type(self).__module__}.{type(self).__name__} {self._name!r} serving {serving}>"


class Broker(BrokerBase):
    """Makes further connections to the other side.

    A host has it as `client.broker`; plugins get it in `Plugin.grpc_server(broker, server)` and
    `Plugin.grpc_client(broker, channel)`. Any thread may use it. Everything that it has made ends
    with the connection between host and plugin.
    """

    def accept(self, service_id: int, **options: Any) -> BrokerServer:
        """A server for what the other side dials by `service_id`: add servicers, then start it.

        `options` are those of `rpc.server`: `max_workers`, `interceptors` and so on. Each id can be
        accepted once.

        Raises: BrokerError; ClosedError after the client's kill.
        """
        server = BrokerServer(**self._server_options(options))
        self._listen(server, service_id)
        return server

    def accept_and_serve(self, service_id: int, register: Any, **options: Any) -> BrokerServer:
        """Serve what the other side dials by `service_id`, and return at once.

        `register` is a servicer, several in a list, or a function that is called with the server to
        add servicers to. The server is kept until its `stop()`.
        """
        server = BrokerServer(**self._server_options(options))
        register_all(server, register)
        self._listen(server, service_id)
        server.start()
        return server

    def dial(self, service_id: int, timeout: float = DIAL_TIMEOUT) -> Channel:
        """A channel to what the other side accepts under `service_id`, within `timeout` seconds.

        Each accepted id can be dialled once; the channel carries any number of calls.

        Raises: BrokerError, which says what the other side has failed to do.
        """
        self._check_dial(service_id)
        opened = _core.call_blocking(self._core.dial, service_id, timeout)
        channel: Channel = self._opened(opened)
        return channel

    # Objects instead of connections.

    def serve(self, *servicers: Any, **options: Any) -> Serving:
        """Serve servicers while a `with` block runs, whose variable is the id to give away.

        with broker.serve(AddHelper()) as id:
            counter.Put(PutRequest(add_server=id))
        """
        return Serving(self.accept_and_serve(self.next_id(), list(servicers), **options))

    def stub(self, service_id: int, stub: Callable[[Any], T], timeout: float = DIAL_TIMEOUT) -> T:
        """What the stub class makes of a new channel to what the other side serves."""
        factory = getattr(stub, "Stub", stub)  # of a pygo_plugin.Service
        return factory(self.dial(service_id, timeout))

    def serve_io(self, file: Any, **options: Any) -> Serving:
        """Let the other side read from, or write to, a binary file object of this side.

        As `serve()`. The file is flushed, and not closed, when the other side closes its end.
        """
        with _importing("pygo_plugin._grpc.broker_files"):
            from pygo_plugin._grpc.broker_files import FileServicer

        return self.serve(FileServicer(file), **options)

    def open_io(
        self, service_id: int, mode: str = "rb", timeout: float = DIAL_TIMEOUT
    ) -> RemoteFile:
        """The file that the other side serves under `service_id`: "rb" to read, "wb" to write.

        Returns: a binary file object, buffered. Closing it sends what is left, and hangs up.
        """
        with _importing("pygo_plugin._grpc.broker_files"):
            from pygo_plugin._grpc.broker_files import open_file

        return open_file(self.dial, service_id, mode, timeout)


class Serving:
    """A server that ends with a `with` block; entering gives its id."""

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
        """Stop serving; calls that are still running are cancelled."""
        self.server.stop(None)


def _stop(server: Any, stop: Callable[[float | None], T], grace: float | None) -> T:
    stopped = stop(grace)
    owner = server._owner and server._owner()
    if owner:
        owner._forget(server)
    return stopped


def _remove(server: Any) -> None:
    """gRPC removes its socket as well, but at a time of its own."""
    if server._place is not None:
        server._place.remove()


def register_all(server: Any, register: Any) -> None:
    """Add what accept_and_serve() takes: a servicer, a list of them, or a function."""
    for one in register if isinstance(register, (list, tuple)) else (register,):
        adder = _adder(one)
        if adder is not None:
            adder(one, server)
        elif callable(one):
            one(server)
        else:
            raise ConfigTypeError(
                f"{type(one).__name__} derives from no servicer class that grpcio or "
                f"pygo_plugin.service has made; pass a function that adds it to the server instead"
            )


def _adder(servicer: Any) -> Callable[[Any, Any], Any] | None:
    """What adds it to a server: its service, or the function next to its generated base class."""
    add_plugin = getattr(servicer, "_add_to_server", None)
    if add_plugin is not None:
        return lambda one, server: one._add_to_server(server)
    service = getattr(type(servicer), "_service", None)
    if service is not None and hasattr(service, "add_to_server"):
        adder: Callable[[Any, Any], Any] = service.add_to_server
        return adder
    for base in type(servicer).__mro__:
        found = getattr(sys.modules.get(base.__module__), f"add_{base.__name__}_to_server", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None
