"""Running calls with grpcio's interfaces: grpc.Call, grpc.Future, iterators of replies.

Imported with the first call that is not a plain blocking one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract
from pygo_plugin.errors import _importing

_CANCELLED = 1
_UNKNOWN = 2
_INTERNAL = 13


class Call(_core.Call, Abstract):
    """One RPC: a grpc.Call and, if it has one reply, a grpc.Future.

    Made by calling a stub. `timeout` arguments are in seconds.
    """

    _implements = ("Call", "Future")
    _cancelled = False  # whether cancel() was called
    _unreadable: BaseException | None = None  # what deserializing the reply raised

    # grpc.Call

    def code(self) -> Any:
        """The grpc.StatusCode. Waits for the end of the call."""
        with _importing("pygo_plugin._grpc.enums"):
            from pygo_plugin._grpc.enums import status_code

        return status_code(self._ended()[0])

    def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""
        return self._ended()[1]

    def trailing_metadata(self) -> tuple[_core.Metadatum, ...]:
        """The metadata that came with the status. Waits for the end of the call."""
        return self._ended()[2]

    def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""
        return self._ended()[3] or ""

    def is_active(self) -> bool:
        """Whether the call is still running."""
        return not self._done()

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended in another way."""
        if self._done():
            return False
        self._cancelled = True
        self._cancel(_CANCELLED, "Locally cancelled by application!")
        self._wait(None)  # for the end on this side, which does not depend on the server
        return self.cancelled()

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Have `callback()` called when the call ends. Returns: False if it has ended already."""
        return self._add(callback)

    # grpc.Future

    def cancelled(self) -> bool:
        """Whether the call ended because it was cancelled here."""
        status = self._status() if self._cancelled else None
        return status is not None and status[0] == _CANCELLED

    def running(self) -> bool:
        """Whether the call is still running."""
        return not self._done()

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done()

    def result(self, timeout: float | None = None) -> Any:
        """The reply. Waits for the end of the call. None if the replies are a stream.

        Raises: RpcError when the call failed; what deserializing the reply raised; TimeoutError
        after `timeout` seconds, which is a grpc.FutureTimeoutError too; RuntimeError when it was
        cancelled here, which is a grpc.FutureCancelledError too.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._reply

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that result() would raise, or None. Waits for the end of the call."""
        ended = self._wait(timeout)
        if ended and self._ended()[0] == 0:
            self._keep_reply()
            return self._unreadable
        with _importing("pygo_plugin._grpc.errors"):
            from pygo_plugin._grpc import errors

        if not ended:
            raise errors.future_timeout()
        if self.cancelled():
            raise errors.future_cancelled()
        error: BaseException | None = self.__dict__.get("_error")
        if type(error) is not errors.rpc_error_class():  # none yet, or grpcio has been imported
            error = self._error = errors.rpc_error(self)
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
        if not self._add(lambda: fn(self)):
            fn(self)

    def __repr__(self) -> str:
        with _importing("pygo_plugin._grpc.describe"):
            from pygo_plugin._grpc.describe import show_call

        return show_call(self, self._status())

    __reduce_ex__ = refuse_copy

    # Inside.

    def _keep_reply(self) -> None:
        """Keep the reply for all later calls of result(), since the core returns it only once."""
        if hasattr(self, "_reply"):
            return
        with self.__dict__.setdefault("_taking", threading.RLock()):
            if not hasattr(self, "_reply"):
                reply = None
                try:
                    reply = self._take_reply()
                except Exception as error:
                    self._unreadable = error
                self._reply: Any = reply

    def _ended(self) -> _core._CallStatus:
        self._wait(None)
        status = self._status()
        assert status is not None
        return status

    def _add(self, callback: Callable[[], Any]) -> bool:
        """Queue `callback` for the end of the call. Returns: False if it has ended."""
        with _callbacks_lock:
            if self._done():
                return False
            callbacks: _Callbacks | None = self.__dict__.get("_callbacks")
            if callbacks is not None:
                return callbacks.add_locked(callback)
            callbacks = self.__dict__["_callbacks"] = _Callbacks(callback)
        self._on_done(callbacks)
        return True


class _Callbacks:
    """The functions to call at the end of a call.

    It holds no reference to the call: a call that the program drops is cancelled.
    """

    def __init__(self, first: Callable[[], Any]) -> None:
        self._waiting: list[Callable[[], Any]] | None = [first]

    def add_locked(self, callback: Callable[[], Any]) -> bool:
        """Add a function. Returns: False if they have been called already.

        Called with _callbacks_lock held.
        """
        if self._waiting is None:
            return False
        self._waiting.append(callback)
        return True

    def __call__(self) -> None:
        with _callbacks_lock:
            waiting, self._waiting = self._waiting or (), None
        for callback in waiting:
            try:
                callback()
            except Exception as error:
                _core.unraisable(error, callback)


_callbacks_lock = threading.Lock()
# When the process forks, a thread that the child does not have may hold it.
os.register_at_fork(after_in_child=_callbacks_lock._at_fork_reinit)  # type: ignore[attr-defined]


class ResponseStream(_core.StreamCall, Call):
    """One RPC whose replies are a stream to iterate over. Dropping it unfinished cancels it."""

    def __next__(self) -> Any:  # repeated here for type checkers
        return super().__next__()

    def _take_reply(self) -> None:
        """Have result() return None: a reply that it took would be missing from the iteration."""


def start_feeding(sender: _core.Sender, requests: Iterator[Any]) -> None:
    """Send what `requests` yields, on a new thread, since each request may take any time.

    The thread does not keep the call running. When the program drops the call, it is cancelled, and
    the thread ends with its next request.
    """
    threading.Thread(
        target=_send_all, args=(sender, requests), name="pygo-feed", daemon=True
    ).start()


def _send_all(sender: _core.Sender, requests: Iterator[Any]) -> None:
    code, doing = _UNKNOWN, "iterating requests"
    try:
        for request in requests:
            code, doing = _INTERNAL, "serializing request"
            if not sender.send(request):
                return
            code, doing = _UNKNOWN, "iterating requests"
    except BaseException as error:
        _core.unraisable(error, requests)
        sender.fail(code, f"Exception {doing}! {error!r}")
    else:
        sender.close()
