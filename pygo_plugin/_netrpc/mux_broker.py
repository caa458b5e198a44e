"""MuxBroker: further connections between a host and a plugin that speak net/rpc.

One side accepts an id, and sends the id to the other side in a call or a reply. The other side
dials the id. See docs/netrpc.md.
"""

from __future__ import annotations

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.client import Client
from pygo_plugin._netrpc.server import core_services
from pygo_plugin.errors import BrokerError, ConfigError, _importing

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader, BufferedWriter
    from types import TracebackType
    from typing import Any, ClassVar, Literal, TypeVar, overload

    from pygo_plugin._netrpc.stream import Stream

    T = TypeVar("T")

    Explain = Callable[[str], Exception]

__all__ = ["TIMEOUT", "MuxBroker", "MuxBrokerBase", "Serving"]

TIMEOUT = 5.0  # seconds that an id is accepted, and that a dialler waits, as with go-plugin
SERVICE = "Plugin"  # under which objects are served, as with go-plugin


class MuxBrokerBase:
    """What the brokers for threads and for asyncio have in common."""

    _PUBLIC: ClassVar[str]  # what repr() calls the class

    def __init__(
        self, core: _core.MuxBroker, explain: Explain | None = None, max_workers: int = 0
    ) -> None:
        """`explain` makes the exception for a lost connection of its text."""
        self._core = core
        self._explain = explain
        self._max_workers = max_workers

    def next_id(self) -> int:
        """A new id, under which a connection can be accepted."""
        return self._core.next_id()

    def _check_id(self, service_id: Any) -> None:
        if not isinstance(service_id, int) or not 0 <= service_id < 1 << 32:
            raise BrokerError(f"{service_id!r} is not a valid id; ids are numbers of 32 bits")

    def __repr__(self) -> str:
        state = "connected" if self._core.connected else "not connected"
        return f"<{self._PUBLIC}, {state}>"

    __reduce_ex__ = refuse_copy


class MuxBroker(MuxBrokerBase):
    """Makes further connections to the other side, as go-plugin's MuxBroker.

    A host has it as `client.broker`, and plugins get it in `netrpc.Plugin.server(broker)`. Any
    thread may use it, on both sides and in either direction.
    """

    _PUBLIC = "netrpc.MuxBroker"

    def accept(self, service_id: int, timeout: float = TIMEOUT) -> Stream:
        """Wait until the other side dials `service_id`.

        Returns: a raw binary file of both directions.
        Raises: BrokerError if it has not within `timeout` seconds.
        """
        with _importing("pygo_plugin._netrpc.stream"):
            from pygo_plugin._netrpc.stream import Stream

        self._check_id(service_id)
        core = _core.call_blocking(self._core.accept_file, service_id, timeout)
        return Stream(core, f"connection {service_id}")

    def dial(self, service_id: int, timeout: float = TIMEOUT) -> Stream:
        """Connect to what the other side accepts under `service_id`. Returns: as `accept`.

        Raises: BrokerError if the other side does not accept it within `timeout` seconds.
        """
        with _importing("pygo_plugin._netrpc.stream"):
            from pygo_plugin._netrpc.stream import Stream

        self._check_id(service_id)
        core = _core.call_blocking(self._core.dial_file, service_id, timeout)
        return Stream(core, f"connection {service_id}")

    def accept_and_serve(self, service_id: int, target: Any, timeout: float = TIMEOUT) -> Serving:
        """Serve `target` as the service `Plugin` to the other side, which dials `id`.

        Returns at once. The id is accepted for `timeout` seconds, and once. Unless
        `Serving.stop()` is called, the object is served until the other side closes the connection.

        Raises: BrokerError; ConfigTypeError if `target` has no methods that could be called.
        """
        self._check_id(service_id)
        services = core_services({SERVICE: target})
        return Serving(
            service_id, self._core.serve(service_id, services, timeout, self._max_workers, None)
        )

    def serve(self, target: Any, timeout: float = TIMEOUT) -> Serving:
        """As `accept_and_serve` with a new id, which is that of the `with` block:

        with client.broker.serve(Callback()) as service_id:
            plugin.call_me(service_id)
        """
        return self.accept_and_serve(self.next_id(), target, timeout)

    def client(self, service_id: int, timeout: float = TIMEOUT) -> Client:
        """A client that calls the object which the other side serves under `service_id`.

        `MuxBroker.proxy` gives an object with typed methods instead.
        """
        self._check_id(service_id)
        found: Client = _core.call_blocking(
            self._core.dial, Client, service_id, timeout, None, self._explain
        )
        found._peer = f"connection {service_id}"
        return found

    def proxy(self, service_id: int, interface: type[T], timeout: float = TIMEOUT) -> T:
        """As `client`, with the methods of a class: see `netrpc.plugin`."""
        from pygo_plugin._netrpc.plugin import proxy_class

        made: Any = proxy_class(interface, False)
        return made(self.client(service_id, timeout))  # type: ignore[no-any-return]

    def serve_io(self, file: Any, mode: str = "", timeout: float = TIMEOUT) -> Serving:
        """Let the other side read from, or write to, a binary file object of this side.

        Used as `serve`. `mode` is that of the other side: "rb" sends it what the file holds, "wb"
        writes what it sends to the file. It may be left out if the file can only be read, or only
        be written. The bytes are raw, as Go's `io.Copy` reads and writes them. The file is flushed
        at the end, not closed.
        """
        with _importing("pygo_plugin._netrpc.lent_file"):
            from pygo_plugin._netrpc.lent_file import lend

        service_id = self.next_id()
        return Serving(service_id, lend(self._core, service_id, file, mode, timeout))

    if TYPE_CHECKING:

        @overload
        def open_io(
            self, service_id: int, mode: Literal["rb", "r"] = "rb", timeout: float = TIMEOUT
        ) -> BufferedReader: ...
        @overload
        def open_io(
            self, service_id: int, mode: Literal["wb", "w"], timeout: float = TIMEOUT
        ) -> BufferedWriter: ...
        @overload
        def open_io(
            self, service_id: int, mode: str, timeout: float = TIMEOUT
        ) -> BufferedReader | BufferedWriter: ...

    def open_io(
        self, service_id: int, mode: str = "rb", timeout: float = TIMEOUT
    ) -> BufferedReader | BufferedWriter:
        """Open what the other side lends under `service_id`, with mode "rb" or "wb".

        Returns: a buffered binary file object. A file that is written has to be closed, which tells
        the other side that it has everything.
        """
        from io import BufferedReader, BufferedWriter

        reads = check_mode(mode)
        stream = self.dial(service_id, timeout)
        return BufferedReader(stream, BUFFER) if reads else BufferedWriter(stream, BUFFER)


BUFFER = 64 * 1024  # bytes, of buffered file objects


def check_mode(mode: Any) -> bool:
    """Whether a mode reads. Raises: ConfigError if it is neither "rb" nor "wb"."""
    if mode not in ("rb", "wb", "r", "w"):
        raise ConfigError(
            f'a file of the other side is opened to read ("rb") or to write ("wb"), not {mode!r}'
        )
    return bool(mode[0] == "r")


class Serving:
    """An id that is accepted and served. In a `with` block, entering returns the id."""

    def __init__(self, service_id: int, core: Any) -> None:
        self.id = service_id
        """What the other side dials."""
        self._core = core

    def stop(self) -> None:
        """Accept the id no more, or end the connection. Idempotent."""
        self._core.stop()

    def __enter__(self) -> int:
        return self.id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<net/rpc connection {self.id}>"
