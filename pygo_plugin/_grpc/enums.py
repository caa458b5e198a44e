"""gRPC's enumerations: grpcio's own once the program has imported grpcio.

Imported when the first status or state is asked for.
"""

from __future__ import annotations

import enum
from typing import Any

from pygo_plugin._grpc.abstract import imported

__all__ = [
    "ChannelConnectivity",
    "Compression",
    "StatusCode",
    "connectivity",
    "enumeration",
    "status_code",
]


class _Twin(enum.Enum):
    """An enumeration with the name and the values of one of grpcio's. Its members equal those.

    A program may import grpcio after it has got a member of ours.
    """

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        kind = enumeration(type(self))
        return isinstance(other, kind) and bool(other.value == self.value)

    def __hash__(self) -> int:
        return hash(self.name)  # as members of grpcio's enumerations

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _member, (type(self), self.value)


class StatusCode(_Twin):
    """gRPC's status codes. The value is (number, text)."""

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


class ChannelConnectivity(_Twin):
    """The states of a channel. The value is (number, text)."""

    IDLE = (0, "idle")
    CONNECTING = (1, "connecting")
    READY = (2, "ready")
    TRANSIENT_FAILURE = (3, "transient failure")
    SHUTDOWN = (4, "shutdown")


class Compression(enum.IntEnum):
    """How messages are compressed. Equal to grpcio's members, as all integers with their values."""

    NoCompression = 0
    Deflate = 1
    Gzip = 2


def enumeration(ours: type[_Twin]) -> Any:
    """grpcio's enumeration that `ours` is the twin of; `ours` itself without grpcio."""
    grpc = imported()
    return ours if grpc is None else getattr(grpc, ours.__name__)


def status_code(number: int) -> Any:
    """The StatusCode with this number; UNKNOWN for a number that gRPC does not define."""
    name = _CODES[number] if 0 <= number < len(_CODES) else "UNKNOWN"
    return enumeration(StatusCode)[name]


def connectivity(state: int) -> Any:
    """The ChannelConnectivity with this number."""
    return enumeration(ChannelConnectivity)[_STATES[state]]


def _member(ours: type[_Twin], value: Any) -> Any:
    return enumeration(ours)(value)


_CODES = [code.name for code in StatusCode]  # by number
_STATES = [state.name for state in ChannelConnectivity]
