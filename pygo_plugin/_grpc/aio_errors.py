"""Exceptions, metadata and EOF of asyncio's calls: grpcio's own where grpcio is installed.

Imported when the first of them is needed, since it imports grpcio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin import errors
from pygo_plugin._grpc.errors import grpc, status_code
from pygo_plugin.errors import RpcError

if TYPE_CHECKING:
    from pygo_plugin._base.core import _core

    Pairs = tuple[_core.Metadatum, ...]


class _EOF:
    """What read() returns at the end of the messages."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<EOF>"


class _FailedCall(RpcError):
    """A call that ended with a status other than OK."""

    def __init__(
        self,
        code: Any,
        initial_metadata: Any = None,
        trailing_metadata: Any = None,
        details: str | None = None,
        debug_error_string: str | None = None,
    ) -> None:
        Exception.__init__(self)
        self._status = (code, initial_metadata, trailing_metadata, details, debug_error_string)

    def code(self) -> Any:
        """The grpc.StatusCode."""
        return self._status[0]

    def details(self) -> str | None:
        """The text that came with the status."""
        return self._status[3]

    def initial_metadata(self) -> Any:
        """The metadata sent ahead of the reply."""
        return self._status[1]

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status."""
        return self._status[2]

    def debug_error_string(self) -> str | None:
        """How gRPC describes the failure."""
        return self._status[4]

    def __str__(self) -> str:
        return (
            f"<RPC failed: status = {self.code()}, details = {self.details()!r}, "
            f"debug_error_string = {self.debug_error_string()!r}>"
        )

    __repr__ = __str__

    def __reduce__(self) -> Any:
        return (AioRpcError, self._status)


AioRpcError: Any = _FailedCall
ClosedError: Any = errors.ClosedError
EOF: Any = _EOF()
_usage_error: Any = RuntimeError
if grpc is not None:
    import grpc.aio

    AioRpcError = type(
        "AioRpcError",
        (_FailedCall, grpc.aio.AioRpcError),
        {"__module__": __name__, "__doc__": _FailedCall.__doc__},
    )
    ClosedError = type(
        "ClosedError",
        (errors.ClosedError, grpc.aio.UsageError),
        {"__module__": __name__, "__doc__": errors.ClosedError.__doc__},
    )
    EOF = grpc.aio.EOF
    _usage_error = grpc.aio.UsageError


def metadata(pairs: Pairs) -> Any:
    """A grpc.aio.Metadata, or the pairs where grpcio is not installed."""
    return pairs if grpc is None else grpc.aio.Metadata.from_tuple(pairs)


def rpc_error(status: _core._CallStatus, initial_metadata: Pairs) -> RpcError:
    """The exception for a call that ended with this status."""
    number, details, trailing, debug = status
    error: RpcError = AioRpcError(
        status_code(number), metadata(initial_metadata), metadata(trailing), details, debug or ""
    )
    return error


def closed_error() -> Exception:
    """The exception for uses of a closed channel. With grpcio it is a grpc.aio.UsageError too."""
    error: Exception = ClosedError("the channel is closed")
    return error


def usage_error(text: str) -> Exception:
    """The exception for calls that are used in a wrong way: a grpc.aio.UsageError with grpcio."""
    error: Exception = _usage_error(text)
    return error
