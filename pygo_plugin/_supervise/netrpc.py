"""Clients of net/rpc whose calls go to whichever incarnation of a plugin takes calls."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, InvalidStateError

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._supervise import metrics
from pygo_plugin._supervise.channel import ChannelBase
from pygo_plugin._supervise.route import Leave, Waiting, end_of, now, remaining
from pygo_plugin.client import DISPENSE_TIMEOUT
from pygo_plugin.errors import CallTimeoutError, ClosedError, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from pygo_plugin._supervise.incarnation import Incarnation
    from pygo_plugin._supervise.route import Route

__all__ = ["RoutedClient"]


def explain(route: Route, incarnation: Incarnation, error: BaseException) -> bool:
    """Give the error of a call that was cut off its cause. Returns: whether it was."""
    told = "stderr" in error.__dict__
    if not isinstance(error, ClosedError) or not (told or incarnation.closed):
        return False
    if error.__cause__ is None:
        error.__cause__ = cause = end_of(route, incarnation)
        if not told:  # what is left of it has been killed by now, and the error says no more
            error.args = (str(cause),)
            error.exit_status, error.stderr = cause.exit_status, cause.stderr
    incarnation.close()  # for the next call, which may come before the news of the end does
    route.failed(incarnation, error)
    return True


def absent(route: Route, late: bool, method: str, cause: BaseException | None) -> Exception:
    """The error of a call that no incarnation takes: at its deadline (`late`), or at once."""
    text = f"{route.refuse()}, so {method} was not called"
    error = CallTimeoutError(text) if late else ClosedError(text)
    error.__cause__ = cause
    return error


class RoutedBase(ChannelBase):
    """What the clients of both kinds share: each incarnation has an object of its own for them."""

    def __init__(self, route: Any, name: str) -> None:
        super().__init__(route)
        self._name = name  # of the plugin

    def _known(self, incarnation: Incarnation) -> Any:
        return incarnation.callables.get(self._key)

    def _keep(self, incarnation: Incarnation, made: Any) -> Any:
        """Keep what was dispensed, unless another thread was faster. Returns: what is kept."""
        self._incarnations.add(incarnation)
        return incarnation.callables.setdefault(self._key, made)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClosedError(f"{self._route.name}: this client of {self._name!r} has been closed")

    def __repr__(self) -> str:
        closed = ", closed" * self._closed
        return f"<{type(self).__name__} to {self._name!r} of {self._route.name!r}{closed}>"

    __reduce_ex__ = refuse_copy


class RoutedClient(RoutedBase):
    """A `netrpc.Client` of a plugin that is kept running.

    Each incarnation of the plugin makes a new object for it, with the first call.
    """

    def __init__(self, route: Route, name: str) -> None:
        super().__init__(route, name)
        self._lock = threading.RLock()
        self._waiting = Waiting(route)

    def call(
        self,
        method: str,
        args: Any = None,
        reply: Any = ...,
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> Any:
        """Call "Service.Method" and wait for the reply. `timeout` includes waiting for the plugin.

        Raises: as `netrpc.Client.call`; PluginFailedError if the plugin was given up.
        """
        route = self._route
        _core.check_timeout(timeout)
        deadline = None if timeout is None else now() + timeout
        repeats = None
        cause: BaseException | None = None
        while True:
            incarnation = route.take()
            if incarnation is None:
                incarnation = self._wait(deadline, method, cause)
            measure = metrics.Stopwatch(route.name, method)
            try:
                known = self._known(incarnation) or self._dispense(incarnation, deadline)
                made = known.call(method, args, reply, remaining(deadline), args_type)
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

    def go(
        self, method: str, args: Any = None, reply: Any = ..., *, args_type: Any = ...
    ) -> RoutedFuture:
        """As `call`, but without waiting. Returns: a future of the reply."""
        self._refuse_closed()
        return RoutedFuture(
            self, method, lambda known: known.go(method, args, reply, args_type=args_type)
        )

    def _wait(self, deadline: float | None, method: str, cause: BaseException | None) -> Any:
        self._refuse_closed()
        if not self._route.waits:
            raise absent(self._route, False, method, cause)
        try:
            return self._route.take_later(deadline)
        except TimeoutError:
            raise absent(self._route, True, method, cause) from cause

    def _dispense(self, incarnation: Incarnation, deadline: float | None = None) -> Any:
        """The object of an incarnation that has none yet."""
        self._refuse_closed()
        client = incarnation.client
        left = remaining(deadline)
        patience = DISPENSE_TIMEOUT if left is None else min(left, DISPENSE_TIMEOUT)
        made = client._dispense(self._name, client._explainer(), patience)
        kept = self._keep(incarnation, made)
        if kept is not made:
            made.close()
        return kept

    def close(self) -> None:
        """End the connections to the objects. Calls under way raise ClosedError. Idempotent."""
        self._closed = True
        for known in self._channels():
            known.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class RoutedFuture(Future):  # type: ignore[type-arg]
    """The reply that a call will have."""

    def __init__(self, owner: RoutedClient, method: str, begin: Callable[[Any], Any]) -> None:
        super().__init__()
        self._owner = owner
        self._method = method
        self._begin = begin
        self._repeats = owner._route.retries.of(method)
        self._inner: Any = None
        self._incarnation: Any = None
        incarnation = owner._route.take()
        if incarnation is None or owner._known(incarnation) is None:
            # Making the object takes time, as waiting does.
            if incarnation is not None:
                owner._route.leave(incarnation)
            self._begin_later(None)
        else:
            self._start(incarnation)

    def _begin_later(self, cause: BaseException | None) -> None:
        route = self._owner._route
        try:
            if route.peek() is None:
                route.refuse()
                if not route.waits:
                    raise absent(route, False, self._method, cause)
        except Exception as error:
            self._settle(error)
        else:
            self._owner._waiting.add(self._try)

    def _try(self, incarnation: Incarnation | None, error: BaseException | None) -> bool:
        if incarnation is not None:
            if self.cancelled():
                self._owner._route.leave(incarnation)
            else:
                self._start(incarnation)
            return True
        if error is not None:
            self._settle(error)
        return self.done()

    def _start(self, incarnation: Incarnation) -> None:
        owner = self._owner
        try:
            inner = self._begin(owner._known(incarnation) or owner._dispense(incarnation))
        except BaseException as error:
            closed = incarnation.closed
            owner._route.leave(incarnation)
            if isinstance(error, ClosedError) and closed and not owner._closed:
                self._begin_later(error)
            elif isinstance(error, Exception):
                self._settle(error)
            else:
                raise
            return
        self._incarnation, self._inner = incarnation, inner
        inner.add_done_callback(Leave(owner._route, incarnation))
        if metrics.active():
            measure = metrics.Stopwatch(owner._route.name, self._method)
            inner.add_done_callback(
                lambda done: measure(CancelledError() if done.cancelled() else done.exception())
            )
        inner.add_done_callback(self._advance)

    def _advance(self, inner: Any) -> None:
        """Take notice of the end of an inner call, perhaps for a second time."""
        with self._condition:
            if inner is not self._inner:
                return
            self._inner = None
        if self.cancelled():
            return
        try:
            error = inner.exception(0)
        except CancelledError:
            self.cancel()
            return
        lost = error is not None and explain(self._owner._route, self._incarnation, error)
        if error is not None and lost and self._repeats > 0:
            self._repeats -= 1
            self._begin_later(error.__cause__)
            return
        self._settle(error, None if error is not None else inner.result(0))

    def _settle(self, error: BaseException | None, reply: Any = None) -> None:
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(reply)
        except InvalidStateError:
            pass  # it was cancelled

    def cancel(self) -> bool:
        """Give the call up: its answer is dropped. Returns: False if it has been answered."""
        inner = self._inner
        cancelled = super().cancel()
        if cancelled and inner is not None:
            inner.cancel()
        return cancelled

    def running(self) -> bool:
        """Whether the call waits for its answer."""
        return not self.done()

    def result(self, timeout: float | None = None) -> Any:
        """The reply. Waits for it up to `timeout` seconds."""
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that `result` would raise, or None. Waits and raises as `result`."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Wait for the call under way without the thread for callbacks, on which this may be."""
        deadline = None if timeout is None else now() + timeout
        while not self.done() and (inner := self._inner) is not None:
            if not inner._wait(remaining(deadline)):
                break
            self._advance(inner)
        return remaining(deadline)

    __reduce_ex__ = refuse_copy
