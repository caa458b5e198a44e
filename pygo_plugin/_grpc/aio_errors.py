"""Exceptions of asyncio's calls, and EOF.

Each is one of grpcio's, too, if the program has imported grpcio when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin import errors
from pygo_plugin._grpc.abstract import derived, imported
from pygo_plugin._grpc.aio_metadata import metadata
from pygo_plugin._grpc.enums import StatusCode, status_code
from pygo_plugin._grpc.errors import describe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pygo_plugin._base.core import _core

    Pairs = tuple[_core.Metadatum, ...]

__all__ = [
    "AioRpcError",
    "EOF",
    "UsageError",
    "closed_error",
    "end_of_file",
    "exported_end_of_file",
    "rpc_error",
    "usage_error",
]


class AioRpcError(errors.RpcError):
    """A call that ended with a status other than OK.

    code                 the grpc.StatusCode
    initial_metadata     the metadata sent ahead of the reply
    trailing_metadata    the metadata that came with the status
    details              the text that came with the status
    debug_error_string   how gRPC describes the failure
    """

    __module__ = "pygo_plugin.aio"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls is AioRpcError:
            cls = derived(AioRpcError, "aio.AioRpcError")
        return super().__new__(cls)

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
        code = self._status[0]
        return status_code(code.value[0]) if isinstance(code, StatusCode) else code

    def details(self) -> str | Any:
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
        return describe(self)

    __repr__ = __str__

    def __reduce__(self) -> Any:
        ended = {"exit_status": self.exit_status, "stderr": self.stderr}
        return AioRpcError, self._status, ended


class ClosedError(errors.ClosedError):
    """A closed channel was used."""

    __module__ = "pygo_plugin.aio"


class UsageError(errors.PluginError, RuntimeError):
    """A call, or the context of one, was used in a way that is not possible."""

    __module__ = "pygo_plugin.aio"


class _EOF:
    """What read() returns at the end of the messages. It equals grpc.aio.EOF."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        grpc = imported()
        return self is other or (grpc is not None and other is grpc.aio.EOF)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "<EOF>"


EOF = _EOF()
_exported = False  # whether the program may hold EOF, and compare what it reads with it


def end_of_file() -> Any:
    """What read() returns at the end of the messages: grpc.aio.EOF if the program can know it."""
    grpc = imported()
    return EOF if grpc is None or _exported else grpc.aio.EOF


def exported_end_of_file() -> Any:
    """What `pygo_plugin.aio.EOF` is now. From then on, read() returns the same."""
    global _exported
    _exported = _exported or imported() is None
    return end_of_file()


def rpc_error(
    status: _core._CallStatus, initial_metadata: Pairs, cut_off: tuple[int | None, str] | None
) -> AioRpcError:
    """The exception for a call that ended with this status.

    `cut_off` is the plugin's exit status and the end of its stderr, if its end has ended the call.
    """
    number, details, trailing, debug = status
    error = AioRpcError(
        status_code(number), metadata(initial_metadata), metadata(trailing), details, debug or ""
    )
    if cut_off is not None:
        error.exit_status, error.stderr = cut_off
    return error


def closed_error() -> ClosedError:
    """The exception for uses of a closed channel: also a grpc.aio.UsageError."""
    error: ClosedError = derived(ClosedError, "aio.UsageError")("the channel is closed")
    return error


def usage_error(text: str) -> UsageError:
    """The exception for calls that are used in a wrong way: also a grpc.aio.UsageError."""
    error: UsageError = derived(UsageError, "aio.UsageError")(text)
    return error
