"""Calls through a route that do not block: futures, and streams of replies.

Each stands for the call of one incarnation, or for several, one after the other: it may begin
later, when an incarnation takes calls, and be repeated.
"""

from __future__ import annotations

import threading
from functools import partial

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin._supervise.route import Leave, end_of, now, remaining
from pygo_plugin.errors import ClosedError, RpcError, _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin._supervise.channel import _MultiCallable
    from pygo_plugin._supervise.incarnation import Incarnation
    from pygo_plugin._supervise.route import Route

__all__ = ["Call", "ResponseStream", "absent", "explain", "was_lost"]

_CANCELLED = 1
_DEADLINE_EXCEEDED = 4
_UNAVAILABLE = 14


def was_lost(error: BaseException) -> bool:
    """Whether the end of the plugin's process has cut a call off, which has raised this."""
    return isinstance(error, RpcError) and "stderr" in error.__dict__


def explain(route: Route, incarnation: Incarnation, error: BaseException) -> bool:
    """Give the error of a call that was cut off its cause. Returns: whether it was."""
    if not was_lost(error):
        return False
    if error.__cause__ is None:
        error.__cause__ = end_of(route, incarnation)
    incarnation.close()  # for the next call, which may come before the news of the end does
    route.failed(incarnation, error)
    return True


def absent(route: Route, late: bool, cause: BaseException | None = None) -> RpcError:
    """The error of a call that no incarnation takes: at its deadline (`late`), or at once."""
    reason = route.refuse()
    with _importing("pygo_plugin._grpc.errors"):
        from pygo_plugin._grpc.errors import _unpickle

    code = _DEADLINE_EXCEEDED if late else _UNAVAILABLE
    error = _unpickle(code, reason, (), (), "", False)
    error.__cause__ = cause
    return error


class Call(Abstract):
    """One RPC of a plugin that is kept running: a grpc.Call and, with one reply, a grpc.Future."""

    _implements = ("Call", "Future")
    _streams = False  # whether the replies are a stream

    def __init__(
        self,
        method: _MultiCallable,
        begin: Callable[[Any, float | None], Any],
        timeout: float | None,
        repeats: int,
    ) -> None:
        """`begin(callable, timeout)` starts the call of one incarnation.

        Raises: what starting it raises, such as the error about a request of the wrong type.
        """
        _core.check_timeout(timeout)
        self._method = method
        self._route = method._route
        self._begin = begin
        self._deadline = None if timeout is None else now() + timeout
        self._repeats = repeats
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], Any]] = []
        self._inner: Any = None  # the call of an incarnation; an RpcError if there could be none
        self._incarnation: Any = None
        self._failure: BaseException | None = None  # what there is instead of an RpcError
        self._cause: BaseException | None = None  # of the attempt before this one
        self._started = threading.Event()  # while there is no inner call
        self._settled = False
        self._replied = False
        self._cancelled = False
        self._watched = repeats > 0 and not self._streams
        incarnation = self._route.take()
        if incarnation is None:
            self._begin_later()
        else:
            self._start(incarnation)

    # ---- Attempts --------------------------------------------------------------------------------

    def _begin_later(self) -> None:
        try:
            self._route.refuse()
            if not self._route.waits:
                raise absent(self._route, False, self._cause)
        except Exception as error:
            self._fail(error)
        else:
            self._method._channel._waiting.add(self._try)

    def _try(self, incarnation: Incarnation | None, error: BaseException | None) -> bool:
        """Begin, or fail, if it is time for either. Called on a worker."""
        if incarnation is not None:
            if self._settled:
                self._route.leave(incarnation)
                return True
            try:
                self._start(incarnation)
            except Exception as raised:
                self._fail(raised)
            return True
        if self._settled:
            return True
        if error is None and (self._deadline is None or now() < self._deadline):
            return False
        try:
            self._fail(absent(self._route, True, self._cause) if error is None else error)
        except Exception as raised:
            self._fail(raised)
        return True

    def _start(self, incarnation: Incarnation) -> None:
        leave = Leave(self._route, incarnation)
        try:
            inner = self._begin(self._method._callable(incarnation), remaining(self._deadline))
        except ClosedError:
            if incarnation.closed and not self._method._channel._closed:
                leave()
                self._begin_later()
                return
            raise
        if not inner.add_callback(leave):
            leave()
        with self._lock:
            self._incarnation, self._inner = incarnation, inner
            unwanted, watched = self._cancelled, self._watched
        self._started.set()
        if unwanted:
            inner.cancel()
        if watched:
            self._watch(inner)

    def _fail(self, error: BaseException) -> None:
        """End without a call of an incarnation."""
        with self._lock:
            if self._settled:
                return
            if isinstance(error, RpcError):
                self._inner = error
            else:
                self._failure = error
                self._inner = _status(_UNAVAILABLE, str(error))
            self._settled = True
        self._started.set()
        self._run_callbacks()

    def _watch(self, inner: Any) -> None:
        """Have the end of the inner call noticed. It keeps this call alive until then."""
        if not inner.add_callback(partial(self._advance, inner)):
            self._advance(inner)

    def _advance(self, inner: Any, repeat: bool | None = None) -> bool:
        """Take notice of the end of an inner call. Returns: False if it is not this call's end.

        `repeat` is whether it may be repeated. By default a stream's end is left to those who
        iterate over it, if it may: they may have replies before them.
        """
        with self._lock:
            if self._settled or inner is not self._inner:
                return self._settled
            lost = inner._cut_off() is not None and inner._status()[0] == _UNAVAILABLE
            again = lost and self._repeats > 0 and not self._replied and not self._cancelled
            if again and repeat is None and self._streams:
                return False
            if again and repeat is not False:
                self._repeats -= 1
                self._inner = None
                self._started.clear()
            else:
                self._settled = True
        incarnation = self._incarnation
        if lost:
            self._cause = end_of(self._route, incarnation)
            incarnation.close()
            self._route.failed(incarnation, self._cause)
        if self._settled:
            self._run_callbacks()
            return True
        self._begin_later()
        return False

    def _run_callbacks(self) -> None:
        with self._lock:
            waiting, self._callbacks = self._callbacks, []
        for callback in waiting:
            try:
                callback()
            except Exception as error:
                _core.unraisable(error, callback)

    def _wait_started(self, timeout: float | None = None) -> Any:
        """The inner call, as soon as there is one; None after `timeout` seconds."""
        while (inner := self._inner) is None:
            if not _core.call_blocking(self._started.wait, timeout):
                return None
        return inner

    def _wait_end(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else now() + timeout
        while not self._settled:
            inner = self._wait_started(remaining(deadline))
            if inner is None:
                return False
            if isinstance(inner, RpcError):  # which has just settled it
                return True
            if not inner._wait(remaining(deadline)):
                return False
            self._advance(inner, repeat=not self._streams)
        return True

    def _ended(self) -> Any:
        self._wait_end()
        return self._inner

    # ---- grpc.Call -------------------------------------------------------------------------------

    def initial_metadata(self) -> Any:
        """The metadata sent ahead of the reply. Waits for it."""
        return self._wait_started().initial_metadata()

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""
        return self._ended().trailing_metadata()

    def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        return self._ended().code()

    def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""
        return self._ended().details()  # type: ignore[no-any-return]

    def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""
        return self._ended().debug_error_string()  # type: ignore[no-any-return]

    def time_remaining(self) -> float | None:
        """The seconds until the deadline; None without one."""
        return remaining(self._deadline)

    def is_active(self) -> bool:
        """Whether the call is still running."""
        return not self.done()

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended in another way."""
        with self._lock:
            if self._settled:
                return False
            self._cancelled = True
            inner = self._inner
        if inner is not None:
            inner.cancel()
            self._advance(inner, repeat=False)
        else:
            self._fail(_status(_CANCELLED, "Locally cancelled by application!"))
        return self.cancelled()

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Have `callback()` called when the call ends. Returns: False if it has ended already."""
        self.done()
        with self._lock:
            if self._settled:
                return False
            self._callbacks.append(callback)
            first, self._watched = not self._watched, True
            inner = self._inner
        if first and inner is not None:
            self._watch(inner)
        return True

    # ---- grpc.Future -----------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether the call ended because it was cancelled here."""
        return self._cancelled and self._settled and self._inner.code().value[0] == _CANCELLED

    def running(self) -> bool:
        """Whether the call is still running."""
        return not self.done()

    def done(self) -> bool:
        """Whether the call has ended."""
        inner = self._inner
        if not self._settled and inner is not None and inner._done():
            self._advance(inner)
        return self._settled

    def result(self, timeout: float | None = None) -> Any:
        """The reply. Waits for the end of the call. None if the replies are a stream.

        Raises: as the `result` of other calls; PluginFailedError if the plugin was given up.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._inner.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that result() would raise, or None. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.errors"):
            from pygo_plugin._grpc import errors

        _core.check_timeout(timeout)
        if not self._wait_end(timeout):
            raise errors.future_timeout()
        if self.cancelled():
            raise errors.future_cancelled()
        if self._failure is not None:
            return self._failure
        error: BaseException | None = self._inner.exception()
        if error is not None:
            self._explain(error)
        return error

    def traceback(self, timeout: float | None = None) -> Any:
        """The traceback of exception(), or None."""
        error = self.exception(timeout)
        if error is not None and error.__traceback__ is None:  # it has not been raised yet
            try:
                raise error
            except BaseException as raised:
                return raised.__traceback__
        return None if error is None else error.__traceback__

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have `fn(self)` called when the call ends, or now if it has ended already."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def _explain(self, error: BaseException) -> None:
        if error.__cause__ is None and was_lost(error):
            error.__cause__ = self._cause or end_of(self._route, self._incarnation)

    def __repr__(self) -> str:
        inner = self._inner
        return f"<routed call, {'waiting' if inner is None else repr(inner)}>"

    __reduce_ex__ = refuse_copy


class ResponseStream(Call):
    """One RPC whose replies are a stream to iterate over. Dropping it unfinished cancels it."""

    _streams = True

    def __iter__(self) -> ResponseStream:
        return self

    def __next__(self) -> Any:
        while True:
            inner = self._wait_started()
            if self._failure is not None:
                raise self._failure
            if isinstance(inner, RpcError):
                raise inner
            try:
                reply = next(inner)
            except StopIteration:
                self._advance(inner)
                raise
            except RpcError as error:
                if not self._advance(inner, repeat=True):
                    continue
                self._explain(error)
                raise
            self._replied = True
            return reply


def _status(code: int, details: str) -> RpcError:
    with _importing("pygo_plugin._grpc.errors"):
        from pygo_plugin._grpc.errors import _unpickle

    return _unpickle(code, details, (), (), "", code == _CANCELLED)
