"""Streams of bytes between a host and a plugin that speak net/rpc, for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import checkpoint, queue_of, running_loop
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin.errors import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Stream"]

PART = 256 * 1024  # bytes that read(-1) reads at once


class Stream:
    """A binary stream of both directions. Made by `MuxBroker.dial`, `accept` and `open_io`.

    One task may read while another one writes. If this side does not read, the other side's writes
    wait, and the reverse. A lost connection is an OSError.
    """

    def __init__(self, core: _core.NetRpcFile, name: str) -> None:
        self._core = core
        self._name = name
        self._closed = False

    async def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, at least one, or all if it is negative. b"": the end."""
        if size < 0:
            parts = []
            while part := await self.read(PART):
                parts.append(part)
            return b"".join(parts)
        buffer = bytearray(size)
        while (found := self._try(self._core.read_into, buffer)) is None:
            await self._ready(writing=False)
        await checkpoint()
        return bytes(buffer[:found])

    async def write(self, data: Any) -> int:
        """Write all of `data`. Returns: the number of bytes."""
        whole = memoryview(data).cast("B")
        at = 0
        while at < len(whole):
            written = self._try(self._core.write, whole[at:])
            if written:
                at += written
            else:
                await self._ready(writing=True)
        await checkpoint()
        return at

    async def close_write(self) -> None:
        """Tell the other side that nothing more will be written. It may go on sending."""
        self._check_open()
        self._core.shutdown()
        await checkpoint()

    async def close(self) -> None:
        """End both directions. What was written is sent. Idempotent."""
        self._closed = True
        self._core.close()
        await checkpoint()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")

    def _try(self, operation: Any, data: Any) -> int | None:
        """Read or write without waiting. Returns: None if that is not possible now."""
        self._check_open()
        try:
            done: int | None = operation(data, 0)
        except ClosedError as error:
            raise OSError(str(error)) from error
        return done

    async def _ready(self, writing: bool) -> None:
        loop = running_loop()
        future = LoopFuture(loop)
        if self._core.when_ready(writing, queue_of(loop), future):
            await future

    def __repr__(self) -> str:
        return f"<net/rpc {self._name}{', closed' if self._closed else ''}>"
