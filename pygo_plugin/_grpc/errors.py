"""Exceptions for failed calls, and status codes: grpcio's own where grpcio is installed.

Imported when the first call fails, since it imports grpcio.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from pygo_plugin.errors import RpcError

if TYPE_CHECKING:
    from pygo_plugin._grpc.calls import Call

grpc: Any
try:
    import grpc
except ImportError:
    grpc = None


class _StatusCode(enum.Enum):
    """gRPC's status codes, as grpcio has them: the value is (number, text)."""

    OK = (0, "ok")
    CANCELLED = (1, "cancelled")
    UNKNOWN = (2, "unknown")
    INVALID_ARGUMENT = (3, "invalid argument")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    NOT_FOUND = (5, "not found")
    ALREADY_EXISTS = (6, "already exists")
    PERMISSION_DENIED = (7, "permission denied")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    FAILED_PRECONDITION = (9, "failed precondition")
    ABORTED = (10, "aborted")
    OUT_OF_RANGE = (11, "out of range")
    UNIMPLEMENTED = (12, "unimplemented")
    INTERNAL = (13, "internal")
    UNAVAILABLE = (14, "unavailable")
    DATA_LOSS = (15, "data loss")
    UNAUTHENTICATED = (16, "unauthenticated")


StatusCode: Any = _StatusCode if grpc is None else grpc.StatusCode

_BY_NUMBER = {code.value[0]: code for code in StatusCode}


def status_code(number: int) -> Any:
    """The StatusCode with this number; UNKNOWN for a number that gRPC does not define."""
    return _BY_NUMBER.get(number, StatusCode.UNKNOWN)


class _FailedCall(RpcError):
    """A call that ended with a status other than OK. Its methods ask the call."""

    def __init__(self, call: Call | _PickledCall) -> None:
        super().__init__()
        self._call = call

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

    def time_remaining(self) -> float | None:
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
        return (
            f"<RPC failed: status = {self.code()}, details = {self.details()!r}, "
            f"debug_error_string = {self.debug_error_string()!r}>"
        )

    __repr__ = __str__

    def __reduce__(self) -> Any:
        # A call cannot be pickled, only how it ended.
        status = (self.code().value[0], self.details(), self.initial_metadata())
        more = (self.trailing_metadata(), self.debug_error_string(), self.cancelled())
        return (_unpickle, status + more)


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
    ) -> None:
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata
        self._debug_error_string = debug_error_string
        self._cancelled = cancelled

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


_class: type[RpcError] = _FailedCall
if grpc is not None:
    _class = type(
        "RpcError",
        (_FailedCall, grpc.RpcError, grpc.Call, grpc.Future),
        {"__module__": "pygo_plugin", "__doc__": _FailedCall.__doc__},
    )


def rpc_error(call: Call) -> RpcError:
    """The exception for a call that has ended with a status other than OK. Called by the core."""
    return _class(call)


def request_refused(error: Exception, asynchronous: bool) -> RpcError:
    """The exception for a call that was not made because its serializer raised `error`.

    Called by the core.
    """
    details = "Exception serializing request!"
    refused: RpcError
    if asynchronous:
        from pygo_plugin._grpc.aio_errors import AioRpcError, metadata

        refused = AioRpcError(StatusCode.INTERNAL, metadata(()), metadata(()), details, "")
    else:
        refused = _unpickle(StatusCode.INTERNAL.value[0], details, (), (), "", False)
    refused.__cause__ = error
    return refused


def _unpickle(*status: Any) -> RpcError:
    return _class(_PickledCall(*status))
