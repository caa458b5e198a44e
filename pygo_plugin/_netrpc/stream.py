"""Streams of bytes between a host and a plugin that speak net/rpc, as raw files."""

from __future__ import annotations

from io import RawIOBase
from typing import Any

from pygo_plugin._base.core import _core
from pygo_plugin.errors import ClosedError

__all__ = ["Stream"]


class Stream(RawIOBase):
    """A raw binary file of both directions. Made by `MuxBroker.dial` and `accept`.

    One thread may read while another one writes. If this side does not read, the other side's
    writes block, and the reverse. `io.BufferedReader(stream)` and the like make buffered files.
    A lost connection is an OSError.
    """

    def __init__(self, core: _core.NetRpcFile, name: str) -> None:
        self._core = core
        self.name = name  # which repr() of buffered files shows, too

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`. Waits for bytes. Returns: how many have come; 0 at the end."""
        self._check_open()
        try:
            found: int = _core.call_blocking(self._core.read_into, buffer, None)
        except ClosedError as error:
            raise OSError(str(error)) from error
        return found

    def write(self, data: Any) -> int:
        """Write bytes. Waits while the other side does not read. Returns: how many were taken."""
        self._check_open()
        try:
            written: int = _core.call_blocking(self._core.write, data, None)
        except ClosedError as error:
            raise OSError(str(error)) from error
        return written

    def close_write(self) -> None:
        """Tell the other side that nothing more will be written. It may go on sending."""
        self._check_open()
        self._core.shutdown()

    def close(self) -> None:
        """End both directions. What was written is sent. Idempotent."""
        if not self.closed:
            super().close()
            self._core.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def __repr__(self) -> str:
        return f"<net/rpc {self.name}{', closed' if self.closed else ''}>"
