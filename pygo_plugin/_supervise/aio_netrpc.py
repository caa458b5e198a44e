"""Clients of net/rpc for asyncio whose calls go to whichever incarnation takes calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import checkpoint
from pygo_plugin._base.aio_threads import in_thread
from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.aio import Client
from pygo_plugin._supervise import metrics
from pygo_plugin._supervise.netrpc import RoutedBase, absent, explain
from pygo_plugin._supervise.route import now, remaining
from pygo_plugin.client import DISPENSE_TIMEOUT
from pygo_plugin.errors import ClosedError, PluginError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pygo_plugin._supervise.incarnation import Incarnation

__all__ = ["RoutedClient"]


class RoutedClient(RoutedBase):
    """A `netrpc.aio.Client` of a plugin that is kept running.

    Each incarnation of the plugin makes a new object for it, with the first call.
    """

    async def call(
        self,
        method: str,
        args: Any = None,
        reply: Any = ...,
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> Any:
        """Call "Service.Method" and wait for the reply. `timeout` includes waiting for the plugin.

        Raises: as `netrpc.aio.Client.call`; PluginFailedError if the plugin was given up.
        """
        route = self._route
        _core.check_timeout(timeout)
        deadline = None if timeout is None else now() + timeout
        repeats = None
        cause: BaseException | None = None
        while True:
            incarnation = route.take()
            if incarnation is None:
                incarnation = await self._wait(deadline, method, cause)
            measure = metrics.Stopwatch(route.name, method)
            try:
                known = self._known(incarnation) or await self._dispense(incarnation, deadline)
                made = await known.call(method, args, reply, remaining(deadline), args_type)
                measure(None)
                return made
            except ClosedError as error:
                if self._closed:
                    raise
                if incarnation.closed and self._known(incarnation) is None:
                    continue  # it was killed before the object was made
                measure(error)
                if not explain(route, incarnation, error):
                    raise
                if repeats is None:
                    repeats = route.retries.of(method)
                if repeats <= 0:
                    raise
                repeats -= 1
                cause = error.__cause__
            except PluginError as error:
                measure(error)
                raise
            finally:
                route.leave(incarnation)

    async def _wait(self, deadline: float | None, method: str, cause: BaseException | None) -> Any:
        self._refuse_closed()
        if not self._route.waits:
            raise absent(self._route, False, method, cause)
        try:
            return await self._route.take_later(deadline)
        except TimeoutError:
            raise absent(self._route, True, method, cause) from cause

    async def _dispense(self, incarnation: Incarnation, deadline: float | None) -> Any:
        """The object of an incarnation that has none yet."""
        self._refuse_closed()
        client = incarnation.client._client
        left = remaining(deadline)
        patience = DISPENSE_TIMEOUT if left is None else min(left, DISPENSE_TIMEOUT)
        core = await in_thread(client._dispense, self._name, None, patience)
        kept = self._keep(incarnation, Client(core, client._explainer()))
        if kept._core is not core:
            core.close()
        return kept

    async def close(self) -> None:
        """End the connections to the objects. Calls under way raise ClosedError. Idempotent."""
        self._closed = True
        for known in self._channels():
            await known.close()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
