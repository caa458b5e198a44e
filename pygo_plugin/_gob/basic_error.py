"""go-plugin's BasicError: an error that is a value of gob."""

from __future__ import annotations

from pygo_plugin._gob.structs import struct
from pygo_plugin.errors import ServerError

__all__ = ["BasicError"]


@struct("*plugin.BasicError")
class BasicError(ServerError):
    """An error that is sent as a value: in a field, or as a reply, of Go's type `error` or `any`.

    A method that raises it answers with its message, as with ServerError.
    """

    message: str = ""

    def __str__(self) -> str:
        return self.message

    def __hash__(self) -> int:
        return hash(self.message)
