"""Failed calls as exceptions, and what else is grpcio's own where grpcio is installed.

Imported with the first failure, the first metadata, the first read() that finds the end: until then
nobody pays for grpcio's import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin import errors
from pygo_plugin._grpc.errors import grpc, status_code
from pygo_plugin.errors import RpcError

if TYPE_CHECKING:
    from pygo_plugin._base.core import _core

    Pairs = tuple[_core.Metadatum, ...]


class _End:
    """What read() gives when there is nothing more to read."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<EOF>"


class _FailedCall(RpcError):
    """A call that ended with another status than OK: all that is known about its end."""

    def __init__(
        self,
        code: Any,
        initial_metadata: Any = None,
        trailing_metadata: Any = None,
        details: str | None = None,
        debug_error_string: str | None = None,
    ) -> None:
        Exception.__init__(self)
        self._said = (code, initial_metadata, trailing_metadata, details, debug_error_string)

    def code(self) -> Any:
        """The grpc.StatusCode."""
        return self._said[0]

    def details(self) -> str | None:
        """The text that came with the status."""
        return self._said[3]

    def initial_metadata(self) -> Any:
        """The metadata sent ahead of the reply."""
        return self._said[1]

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status."""
        return self._said[2]

    def debug_error_string(self) -> str | None:
        """gRPC's own account of the failure."""
        return self._said[4]

    def __str__(self) -> str:
        return (
            f"<RPC failed: status = {self.code()}, details = {self.details()!r}, "
            f"debug_error_string = {self.debug_error_string()!r}>"
        )

    __repr__ = __str__

    def __reduce__(self) -> Any:
        return (AioRpcError, self._said)


AioRpcError: Any = _FailedCall
ClosedError: Any = errors.ClosedError  # what uses of a closed channel raise
EOF: Any = _End()
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
    """Metadata as grpc.aio has them, or without grpcio the pairs."""
    return pairs if grpc is None else grpc.aio.Metadata.from_tuple(pairs)


def rpc_error(status: _core._CallStatus, initial_metadata: Pairs) -> RpcError:
    """The exception for a call that ended like that."""
    number, details, trailing, debug = status
    error: RpcError = AioRpcError(
        status_code(number), metadata(initial_metadata), metadata(trailing), details, debug or ""
    )
    return error


def closed_error() -> Exception:
    """What uses of a closed channel raise; also a grpc.aio.UsageError where grpcio is installed."""
    error: Exception = ClosedError("the channel is closed")
    return error


def usage_error(text: str) -> Exception:
    """What a call raises that is not used as it may be used."""
    error: Exception = _usage_error(text)
    return error
