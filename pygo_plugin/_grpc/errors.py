"""Exceptions for failed calls. Those of asyncio's are in `aio_errors`.

Each is an exception of grpcio's, too, if the program has imported grpcio when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin import errors
from pygo_plugin._grpc.abstract import derived
from pygo_plugin._grpc.enums import status_code

if TYPE_CHECKING:
    from pygo_plugin._grpc.calls import Call

__all__ = [
    "FutureCancelledError",
    "FutureTimeoutError",
    "RpcError",
    "describe",
    "future_cancelled",
    "future_timeout",
    "request_refused",
    "rpc_error",
    "rpc_error_class",
]

_INTERNAL = 13


class FutureTimeoutError(errors.PluginError, TimeoutError):
    """A call has not ended within the `timeout` of result() or exception()."""

    __module__ = "pygo_plugin"


class FutureCancelledError(errors.PluginError, RuntimeError):
    """The result or the exception of a call that was cancelled was asked for."""

    __module__ = "pygo_plugin"


class RpcError(errors.RpcError):
    """A call that ended with a status other than OK. Its methods ask the call."""

    __module__ = "pygo_plugin"

    def __init__(self, call: Call | _PickledCall) -> None:
        super().__init__()
        self._call = call
        cut_off = call._cut_off()
        if cut_off is not None:
            self.exit_status, self.stderr = cut_off

    def code(self) -> Any:
        """The grpc.StatusCode."""
        return self._call.code()

    def details(self) -> str:
        """The text that came with the status."""
        return self._call.details() or ""

    def initial_metadata(self) -> Any:
        """The metadata sent ahead of the reply."""
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status."""
        return self._call.trailing_metadata()

    def debug_error_string(self) -> str:
        """How gRPC describes the failure."""
        return self._call.debug_error_string()

    # The other methods of grpc.Call and grpc.Future, which this class implements too.

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float | Any:
        return self._call.time_remaining()

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False

    def cancelled(self) -> bool:
        return self._call.cancelled()

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> BaseException:
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return self.__traceback__

    def add_done_callback(self, fn: Any) -> None:
        fn(self)

    def __str__(self) -> str:
        return describe(self)

    __repr__ = __str__

    def __reduce__(self) -> Any:
        # A call cannot be pickled, only how it ended.
        status = (self.code().value[0], self.details(), self.initial_metadata())
        more = (self.trailing_metadata(), self.debug_error_string(), self.cancelled())
        return (_unpickle, (*status, *more, self._call._cut_off()))


class _PickledCall:
    """How a call ended: what a pickled exception has instead of its call."""

    def __init__(
        self,
        code: int,
        details: str,
        initial_metadata: Any,
        trailing_metadata: Any,
        debug_error_string: str,
        cancelled: bool,
        cut_off: tuple[int | None, str] | None = None,
    ) -> None:
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata
        self._debug_error_string = debug_error_string
        self._cancelled = cancelled
        self._how_cut_off = cut_off

    def _cut_off(self) -> tuple[int | None, str] | None:
        return self._how_cut_off

    def code(self) -> Any:
        return status_code(self._code)

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Any:
        return self._initial_metadata

    def trailing_metadata(self) -> Any:
        return self._trailing_metadata

    def debug_error_string(self) -> str:
        return self._debug_error_string

    def time_remaining(self) -> float | None:
        return None

    def cancelled(self) -> bool:
        return self._cancelled


def describe(error: Any) -> str:
    """The text of an exception, blocking or of asyncio."""
    text = (
        f"<RPC failed: status = {error.code()}, details = {error.details()!r}, "
        f"debug_error_string = {error.debug_error_string()!r}>"
    )
    return f"{text}\nThe plugin's stderr ends with:\n{error.stderr}" if error.stderr else text


def rpc_error(call: Call | _PickledCall) -> RpcError:
    """The exception for a call that has ended with a status other than OK. Called by the core."""
    return rpc_error_class()(call)


def rpc_error_class() -> type[RpcError]:
    """The class of the exceptions that rpc_error() makes now."""
    return derived(RpcError, "RpcError", "Call", "Future")


def future_timeout() -> FutureTimeoutError:
    """The exception for a call that has not ended in time."""
    error: FutureTimeoutError = derived(FutureTimeoutError, "FutureTimeoutError")(
        "the call has not ended within the timeout"
    )
    return error


def future_cancelled() -> FutureCancelledError:
    """The exception for a call that was cancelled here."""
    error: FutureCancelledError = derived(FutureCancelledError, "FutureCancelledError")(
        "the call was cancelled"
    )
    return error


def request_refused(error: Exception, method: str, asynchronous: bool) -> errors.RpcError:
    """The exception for a call of `method` that was not made: its serializer has raised `error`.

    Called by the core.
    """
    details = f"Exception serializing request! {method}: {error}"
    refused: errors.RpcError
    if asynchronous:
        from pygo_plugin._grpc.aio_errors import rpc_error

        refused = rpc_error((_INTERNAL, details, (), ""), (), None)
    else:
        refused = _unpickle(_INTERNAL, details, (), (), "", False)
    refused.__cause__ = error
    return refused


def _unpickle(*status: Any) -> RpcError:
    return rpc_error(_PickledCall(*status))
