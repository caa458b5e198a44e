"""Failed calls as exceptions, and status codes as grpcio's where grpcio is installed.

Imported with the first failure: until then nobody pays for grpcio's import.
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
    """gRPC's status codes, in grpcio's form: the value is (number, text)."""

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
    """A call that ended with another status than OK. Everything about it is asked of the call."""

    def __init__(self, call: Call | _PastCall) -> None:
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
        """gRPC's own account of the failure."""
        return self._call.debug_error_string()

    # What follows completes grpc.Call and grpc.Future, of which this is an instance as well.

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
        # Calls do not travel between processes; what they said does.
        said = (self.code().value[0], self.details(), self.initial_metadata())
        more = (self.trailing_metadata(), self.debug_error_string(), self.cancelled())
        return (_thaw, said + more)


class _PastCall:
    """What a pickle keeps of a call: how it ended."""

    def __init__(self, *said: Any) -> None:
        self._code, self._details, self._initial, self._trailing, self._debug, self._cancelled = (
            said
        )

    def code(self) -> Any:
        return status_code(self._code)

    def details(self) -> str:
        return str(self._details)

    def initial_metadata(self) -> Any:
        return self._initial

    def trailing_metadata(self) -> Any:
        return self._trailing

    def debug_error_string(self) -> str:
        return str(self._debug)

    def time_remaining(self) -> float | None:
        return None

    def cancelled(self) -> bool:
        return bool(self._cancelled)


_class: type[RpcError] = _FailedCall
if grpc is not None:
    _class = type(
        "RpcError",
        (_FailedCall, grpc.RpcError, grpc.Call, grpc.Future),
        {"__module__": "pygo_plugin", "__doc__": _FailedCall.__doc__},
    )


def rpc_error(call: Call) -> RpcError:
    """The exception for a call that has ended with another status than OK."""
    return _class(call)


def request_refused(error: Exception, asynchronous: bool) -> RpcError:
    """The exception for a call that was not made because its serializer raised `error`."""
    details = "Exception serializing request!"
    refused: RpcError
    if asynchronous:
        from pygo_plugin._grpc.aio_errors import AioRpcError, metadata

        refused = AioRpcError(StatusCode.INTERNAL, metadata(()), metadata(()), details, "")
    else:
        refused = _thaw(StatusCode.INTERNAL.value[0], details, (), (), "", False)
    refused.__cause__ = error
    return refused


def _thaw(*said: Any) -> RpcError:
    return _class(_PastCall(*said))
