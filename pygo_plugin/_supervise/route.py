"""Who gives a call the incarnation that answers it."""

from __future__ import annotations

import threading
import time

from pygo_plugin._supervise import driver
from pygo_plugin._supervise.retry import Retries
from pygo_plugin.errors import ClosedError, PluginExitedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from pygo_plugin._supervise.incarnation import Incarnation

    _Start = Callable[["Incarnation | None", "BaseException | None"], bool]

    class Route(Protocol):
        """What routed calls need. Its methods may be called on any thread.

        name     what messages call the plugin
        waits    whether calls wait while no incarnation takes calls
        retries  which calls are repeated
        """

        name: str
        waits: bool
        retries: Retries

        def take(self) -> Incarnation | None:
            """An incarnation that has counted the call in; None if there is none now."""

        def peek(self) -> Incarnation | None:
            """The incarnation that would be taken."""

        def take_later(self, deadline: float | None) -> Any:
            """The same as soon as there is one; of an asyncio plugin a coroutine.

            Raises: TimeoutError; PluginFailedError, ClosedError or ForkedError if none will come.
            """

        def leave(self, incarnation: Incarnation) -> None:
            """Count a call out."""

        def refuse(self) -> str:
            """Why no incarnation takes calls now. Raises: as take_later if none will come."""

        def failed(self, incarnation: Incarnation, error: BaseException) -> None:
            """Take the hint that a call has lost its connection."""


__all__ = ["Leave", "SupervisorRoute", "Waiting", "end_of", "now", "remaining", "route_of"]

now = time.monotonic


class SupervisorRoute:
    """The calls of one supervisor go to its current incarnation."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self.name: str = owner.name
        self.waits: bool = owner._settings.wait
        self.retries = Retries(owner._settings.retry)

    def take(self) -> Incarnation | None:
        current: Incarnation | None = self._owner._current
        return current if current is not None and current.enter() else None

    def peek(self) -> Incarnation | None:
        current: Incarnation | None = self._owner._current
        return None if current is None or current.closed else current

    def take_later(self, deadline: float | None) -> Incarnation:
        while True:
            found: Incarnation = self._owner._wait_current(deadline)
            if found.enter():
                return found

    def leave(self, incarnation: Incarnation) -> None:
        incarnation.leave()

    def refuse(self) -> str:
        self._owner._refuse()
        return self._owner._why_absent()  # type: ignore[no-any-return]

    def failed(self, incarnation: Incarnation, error: BaseException) -> None:
        self._owner._call_failed(incarnation, error)


class AioSupervisorRoute(SupervisorRoute):
    """The same for a supervisor of asyncio."""

    async def take_later(self, deadline: float | None) -> Incarnation:  # type: ignore[override]
        while True:
            found: Incarnation = await self._owner._wait_current(deadline)
            if found.enter():
                return found


def route_of(owner: Any, asynchronous: bool = False) -> Any:
    """The route to a supervisor's plugin."""
    return (AioSupervisorRoute if asynchronous else SupervisorRoute)(owner)


def remaining(deadline: float | None) -> float | None:
    """The seconds until then, at least 0."""
    return None if deadline is None else max(0.0, deadline - now())


def end_of(route: Route, incarnation: Incarnation) -> PluginExitedError | ClosedError:
    """Why an incarnation is gone: the cause of the errors of its calls.

    It blocks if nobody knows, which nobody does only for moments.
    """
    known = incarnation.failure
    if isinstance(known, PluginExitedError):
        return known
    from pygo_plugin._supervise.supervised import exit_error

    client = incarnation.client
    return exit_error(route.name, getattr(client, "_client", client))  # an aio.Client's


class Leave:
    """Counts a call out when it is called, or else when nothing refers to it any more.

    The end of a call that the program has dropped may not be told.
    """

    __slots__ = ("_incarnation", "_route")

    def __init__(self, route: Route, incarnation: Incarnation) -> None:
        self._route: Route | None = route
        self._incarnation = incarnation

    def __call__(self, _: Any = None) -> None:
        route, self._route = self._route, None
        if route is not None:
            route.leave(self._incarnation)

    __del__ = __call__


class Waiting:
    """Calls that wait for an incarnation without a thread of their own."""

    # Seconds between two looks at the deadlines and at what was cancelled.
    INTERVAL = 0.05

    def __init__(self, route: Route) -> None:
        self._route = route
        self._lock = threading.RLock()
        self._calls: list[_Start] = []
        self._runs = False

    def add(self, start: _Start) -> None:
        """Have `start(incarnation, None)` called on a worker, with an incarnation taken for it.

        Now and then it is called with `(None, None)`, or with the error why none will come. It
        returns whether that was the last time. After an incarnation it is.
        """
        with self._lock:
            self._calls.append(start)
            if self._runs:
                return
            self._runs = True
        driver.run(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                calls, self._calls = self._calls, []
                if not calls:
                    self._runs = False
                    return
            error: BaseException | None = None
            found: Incarnation | None = None
            try:
                found = self._route.take_later(now() + self.INTERVAL)
            except TimeoutError:
                pass
            except Exception as raised:
                error = raised
            left = []
            for start in calls:
                if not start(found, error):
                    left.append(start)
                if found is not None:
                    found = self._route.take()
            if found is not None:
                self._route.leave(found)
            with self._lock:
                self._calls[:0] = left
