"""MuxBroker for asyncio programs. See `pygo_plugin.netrpc.MuxBroker`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import queue_of, running_loop
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._netrpc.aio import Client
from pygo_plugin._netrpc.client import Client as _BlockingClient
from pygo_plugin._netrpc.mux_broker import (
    SERVICE,
    TIMEOUT,
    MuxBrokerBase,
    check_mode,
)
from pygo_plugin._netrpc.server import core_services

if TYPE_CHECKING:
    from pygo_plugin._netrpc.aio_stream import Stream

__all__ = ["Connection", "MuxBroker", "Serving"]


class MuxBroker(MuxBrokerBase):
    """Makes further connections to the other side.

    Coroutine methods of the objects that it serves run on the loop that has called
    `accept_and_serve` or `serve`.
    """

    _PUBLIC = "netrpc.aio.MuxBroker"

    async def accept(self, service_id: int, timeout: float = TIMEOUT) -> Stream:
        """Wait until the other side dials `service_id`.

        Returns: a stream of bytes in both directions.
        Raises: BrokerError if it has not within `timeout` seconds.
        """
        from pygo_plugin._netrpc.aio_stream import Stream

        self._check_id(service_id)
        core = await in_thread(self._core.accept_file, service_id, timeout)
        return Stream(core, f"connection {service_id}")

    async def dial(self, service_id: int, timeout: float = TIMEOUT) -> Stream:
        """Connect to what the other side accepts under `service_id`. Returns: as `accept`.

        Raises: BrokerError if the other side does not accept it within `timeout` seconds.
        """
        from pygo_plugin._netrpc.aio_stream import Stream

        self._check_id(service_id)
        core = await in_thread(self._core.dial_file, service_id, timeout)
        return Stream(core, f"connection {service_id}")

    async def accept_and_serve(
        self, service_id: int, target: Any, timeout: float = TIMEOUT
    ) -> Connection:
        """Serve `target` as the service `Plugin` to the other side, which dials `service_id`.

        See `netrpc.MuxBroker.accept_and_serve`.
        """
        return self._serve_now(service_id, target, timeout)

    def _serve_now(self, service_id: int, target: Any, timeout: float = TIMEOUT) -> Connection:
        self._check_id(service_id)
        loop = running_loop()
        services = core_services({SERVICE: target}, queue_of(loop), loop)
        core = self._core.serve(service_id, services, timeout, self._max_workers, None)
        return Connection(service_id, core)

    def serve(self, target: Any, timeout: float = TIMEOUT) -> Serving:
        """As `accept_and_serve` with a new id, which is that of the `async with` block:

        async with client.broker.serve(Callback()) as service_id:
            await plugin.call_me(service_id)
        """
        return Serving(self, lambda service_id: self._serve_now(service_id, target, timeout))

    async def client(self, service_id: int, timeout: float = TIMEOUT) -> Client:
        """A client that calls the object which the other side serves under `service_id`."""
        self._check_id(service_id)
        made = await in_thread(self._core.dial, _BlockingClient, service_id, timeout, None, None)
        made._peer = f"connection {service_id}"
        return Client(made, self._explain)

    async def proxy(self, service_id: int, interface: Any, timeout: float = TIMEOUT) -> Any:
        """As `client`, with the methods of a class, as coroutines: see `netrpc.plugin`."""
        from pygo_plugin._netrpc.plugin import proxy_class

        return proxy_class(interface, True)(await self.client(service_id, timeout))

    def serve_io(self, file: Any, mode: str = "", timeout: float = TIMEOUT) -> Serving:
        """Let the other side read from, or write to, a binary file object of this side.

        Used as `serve`; see `netrpc.MuxBroker.serve_io`. The file's methods run on a thread.
        """
        from pygo_plugin._netrpc.lent_file import lend

        return Serving(
            self,
            lambda service_id: Connection(
                service_id, lend(self._core, service_id, file, mode, timeout)
            ),
        )

    async def open_io(self, service_id: int, mode: str = "rb", timeout: float = TIMEOUT) -> Stream:
        """Open what the other side lends under `service_id`, with mode "rb" or "wb".

        Returns: a stream whose `read` and `write` are coroutines. A stream that is written has to
        be closed, which tells the other side that it has everything.
        """
        check_mode(mode)
        return await self.dial(service_id, timeout)


class Connection:
    """An id that is accepted and served."""

    def __init__(self, service_id: int, core: Any) -> None:
        self.id = service_id
        """What the other side dials."""
        self._core = core

    def __repr__(self) -> str:
        return f"<net/rpc connection {self.id}>"

    async def stop(self) -> None:
        """Accept the id no more, or end the connection. Idempotent."""
        await in_thread(self._core.stop)


class Serving:
    """What is served while an `async with` block runs. Entering the block returns its id."""

    def __init__(self, owner: MuxBroker, serve: Callable[[int], Connection]) -> None:
        self._owner = owner
        self._serve = serve

    def __repr__(self) -> str:
        return f"<Serving of {getattr(self, '_connection', 'an id that is to be taken')}>"

    async def __aenter__(self) -> int:
        service_id = self._owner.next_id()
        self._connection = self._serve(service_id)
        return service_id

    async def __aexit__(self, *raised: object) -> None:
        await self._connection.stop()
