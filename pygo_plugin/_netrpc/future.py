"""Calls of net/rpc that were started without waiting. Imported with the first of them."""

from __future__ import annotations

import os
from _thread import allocate_lock

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Future"]


class Future(_core.NetRpcCall):
    """The reply that a call will have, with the methods of `concurrent.futures.Future`.

    Made by `Client.go`. A call goes on even if nothing refers to its future.
    """

    _callbacks: list[Callable[[Any], Any]] | None = None  # None until one is added
    _called = False  # whether they have been called

    def result(self, timeout: float | None = None) -> Any:
        """The reply. Waits for it up to `timeout` seconds.

        Raises: as `Client.call`; TimeoutError while there is no answer;
        concurrent.futures.CancelledError.
        """
        self._wait_for_end(timeout)
        return self._result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that `result` would raise, or None. Waits and raises as `result`."""
        self._wait_for_end(timeout)
        return self._error()

    def cancel(self) -> bool:
        """Give the call up: its answer is dropped. Returns: False if it has been answered.

        The server is not told, since net/rpc has no message for that.
        """
        return self._cancel() or self._cancelled()

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._cancelled()

    def running(self) -> bool:
        """Whether the call waits for its answer."""
        return not self._over()

    def done(self) -> bool:
        """Whether the call was answered or cancelled, or has failed."""
        return self._over()

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have `fn(self)` called when the call is done, or now if it is.

        It is called on a thread for callbacks. What it raises goes to `sys.unraisablehook`.
        """
        with _lock:
            late = self._called or (self._callbacks is None and self._over())
            first = not late and self._callbacks is None
            if first:
                self._callbacks = [fn]
            elif not late and self._callbacks is not None:
                self._callbacks.append(fn)
        if late:
            fn(self)
        elif first:
            self._on_done(self._call_all)

    def _call_all(self) -> None:
        with _lock:
            self._called = True
            waiting, self._callbacks = self._callbacks or [], []
        for fn in waiting:
            try:
                fn(self)
            except Exception as error:
                _core.unraisable(error, fn)

    def _wait_for_end(self, timeout: float | None) -> None:
        if not self._wait(timeout):
            from concurrent.futures import TimeoutError as FutureTimeoutError

            raise FutureTimeoutError
        if self._cancelled():
            from concurrent.futures import CancelledError

            raise CancelledError

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled() else "done" if self._over() else "running"
        return f"<net/rpc call of {self._method}, {state}>"

    __reduce_ex__ = refuse_copy


_lock = allocate_lock()
# When the process forks, a thread that the child does not have may hold it.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
