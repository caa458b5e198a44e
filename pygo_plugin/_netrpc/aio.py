"""net/rpc for asyncio: clients and servers whose methods that wait are coroutines."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pygo_plugin._base import at_exit
from pygo_plugin._base.aio_loops import queue_of, running_loop
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._netrpc.address import core_limits, core_tls, parse
from pygo_plugin._netrpc.client import Client as _BlockingClient
from pygo_plugin._netrpc.server import ServerBase, core_services, named_services
from pygo_plugin.errors import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from pygo_plugin._netrpc.aio_mux_broker import MuxBroker
    from pygo_plugin._netrpc.aio_stream import Stream
    from pygo_plugin._netrpc.mux_broker import Explain
    from pygo_plugin.gob import Limits
    from pygo_plugin.security import TLSConfig

T = TypeVar("T")

__all__ = ["Client", "MuxBroker", "Server", "Stream", "connect", "listen"]

if not TYPE_CHECKING:  # if mypy saw __getattr__, it would accept misspelt names

    def __getattr__(name):
        if name == "MuxBroker":
            from pygo_plugin._netrpc.aio_mux_broker import MuxBroker as found
        elif name == "Stream":
            from pygo_plugin._netrpc.aio_stream import Stream as found
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


class Client:
    """The calling side of a net/rpc connection, for any number of tasks and calls at once.

        async with await netrpc.aio.connect("unix:/run/arith.sock") as client:
            total = await client.call("Arith.Add", Args(a=1, b=2), reply=int)

    It belongs to no loop: several may use it. Made by `connect`, never directly.
    """

    def __init__(self, core: _BlockingClient, explain: Explain | None = None) -> None:
        """`explain` makes the exception for a lost connection of its text. It blocks."""
        self._core = core
        self._explain = explain

    if TYPE_CHECKING:

        @overload
        async def call(
            self,
            method: str,
            args: object,
            reply: type[T],
            timeout: float | None = None,
            args_type: Any = ...,
        ) -> T: ...
        @overload
        async def call(
            self,
            method: str,
            args: object = None,
            *,
            reply: type[T],
            timeout: float | None = None,
            args_type: Any = ...,
        ) -> T: ...
        @overload
        async def call(
            self,
            method: str,
            args: object = None,
            reply: Any = ...,
            timeout: float | None = None,
            args_type: Any = ...,
        ) -> Any: ...

    async def call(
        self,
        method: str,
        args: object = None,
        reply: Any = ...,
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> Any:
        """Call "Service.Method" and wait for the reply. See `netrpc.Client.call`.

        If the task is cancelled, or the timeout is over, the answer is dropped when it comes.
        """
        _core.check_timeout(timeout)
        loop = running_loop()
        future = LoopFuture(loop)
        call = timer = None
        try:
            call = self._core._begin(
                queue_of(loop), future, method, args, reply, args_type=args_type
            )
            if timeout is not None:
                timer = loop.call_later(max(timeout, 0), call._expire, method)
            return await future
        except asyncio.CancelledError:
            if call is not None:
                call._cancel()
            raise
        except ClosedError as error:
            if self._explain is None:
                raise
            explained = await in_thread(self._explain, str(error))
        finally:
            if timer is not None:
                timer.cancel()
        raise explained

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._core.closed

    def __repr__(self) -> str:
        return f"<netrpc.aio.{self._core._shown()}>"

    __reduce_ex__ = refuse_copy

    async def close(self) -> None:
        """End the connection. Calls that are in flight raise ClosedError. Idempotent."""
        self._core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def connect(
    address: str,
    *,
    tls_config: TLSConfig | None = None,
    timeout: float | None = None,
    limits: Limits | None = None,
) -> Client:
    """Connect to a server that speaks net/rpc. See `netrpc.connect`."""
    network, where = parse(address)
    at_exit.register()
    tls, bounds = core_tls(tls_config), core_limits(limits)
    made = await in_thread(_BlockingClient._connect, network, where, tls, bounds, timeout)
    made._peer = address
    return Client(made)


class Server(ServerBase):
    """Serves net/rpc at an address. Made by `listen`.

    Coroutine methods run on the loop that has called `listen`, other methods on threads of the
    core.
    """

    _PUBLIC = "netrpc.aio.Server"

    async def close(self) -> None:
        """Stop listening and end all connections, without waiting for methods. Idempotent."""
        await in_thread(self._core.close)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is closed and no method runs. Returns: False after `timeout` s."""
        return await in_thread(self._core.wait, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def listen(
    address: str,
    services: Any,
    *,
    tls_config: TLSConfig | None = None,
    max_workers: int | None = None,
    limits: Limits | None = None,
) -> Server:
    """Serve objects at an address, on the running loop. See `netrpc.listen`."""
    loop = running_loop()
    made = core_services(named_services(services), queue_of(loop), loop)
    return Server(address, made, tls_config, max_workers, limits)
