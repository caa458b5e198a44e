"""The plugin's side of what it prints: descriptors 1 and 2 on their way to the host."""

from __future__ import annotations

import os
import sys
from io import FileIO, TextIOWrapper

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Stdio", "keep_stderr"]

PATIENCE = 1.0  # seconds, at the end, for a host that reads slowly or not at all

STDERR = 2  # the descriptor


class Stdio:
    """Standard output and standard error of this process, as the service StreamStdio gives them.

    From `open()` to `end()` the descriptors are pipes, which one host at a time reads. Before and
    after they are what the process was started with.
    """

    def __init__(self) -> None:
        self.core = _core.Stdio()
        self._pid = os.getpid()
        self._buffering: list[tuple[Any, bool]] = []  # of borrowed streams, to put back

    def open(self, line: bytes) -> None:
        """Replace the descriptors, then write the line to what standard output was.

        In that order, because the host that has read the line may have something printed at once.
        Python's own streams write each line when it is complete from now on.

        Raises: OSError, or ConfigError (a ValueError) if they have been replaced already. Nothing
        has happened then.
        """
        self.core.open(line)
        _each_stream("reconfigure", line_buffering=True)

    def borrow(self) -> None:
        """The same in a process that is not the plugin's alone: `end()` leaves no trace of it.

        What was printed before stays where it was meant for.

        Raises: as `open`.
        """
        _each_stream("flush")
        streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
        buffering = [(s, s.line_buffering) for s in streams if hasattr(s, "line_buffering")]
        self.open(b"")
        self._buffering = buffering

    def finish(self) -> None:
        """Give the descriptors back; the host gets what was written before. Never blocks."""
        if os.getpid() == self._pid:
            _each_stream("flush")
            self.core.finish(PATIENCE)

    def end(self) -> None:
        """The same, and wait until the host has it, at most a second. Idempotent."""
        if os.getpid() == self._pid:
            _each_stream("flush")
            buffering, self._buffering = self._buffering, []
            for stream, by_line in buffering:
                _call(stream, "reconfigure", line_buffering=by_line)
            self.core.end(PATIENCE)


def keep_stderr(log: int, sync: bool) -> None:
    """Have `sys.stderr` write to the log when descriptor 2 is replaced.

    The stream object stays the same and gets another descriptor, because handlers of `logging` and
    sinks of other libraries may hold a reference to it.

    log   duplicate of the original standard error, open for as long as the process lives
    sync  the host wants what is written to `sys.stderr`, which becomes a new stream on descriptor 2
    """
    current: Any = sys.stderr
    streams: list[Any] = [sys.__stderr__]
    if current is not sys.__stderr__:
        streams.append(current)
    replaced = False
    for stream in streams:
        file = _file_on_stderr(stream)
        if file is None:
            continue  # none at all, the author's own kind, or closed
        name = file.name
        file.__init__(log, "wb", closefd=False)  # type: ignore[misc]  # keeps the object
        file.name = name
        _call(stream, "reconfigure", encoding="utf-8", errors="backslashreplace")  # as hosts read
        replaced = replaced or stream is current
    if sync and replaced:
        unbuffered = getattr(current, "write_through", False)
        binary: Any = open(STDERR, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        sys.stderr = TextIOWrapper(
            binary, "utf-8", "backslashreplace", line_buffering=True, write_through=unbuffered
        )


def _file_on_stderr(stream: Any) -> FileIO | None:
    """The file below a stream of Python's, if it writes to descriptor 2 and does not own it."""
    file = getattr(stream, "buffer", None)
    file = getattr(file, "raw", file)  # without a buffer, the file itself: python -u
    if not isinstance(file, FileIO) or file.closed or file.closefd:
        return None
    return file if file.fileno() == STDERR else None


def _each_stream(method: str, **arguments: Any) -> None:
    for stream in (sys.stdout, sys.stderr):
        _call(stream, method, **arguments)


def _call(stream: Any, method: str, **arguments: Any) -> None:
    try:
        getattr(stream, method)(**arguments)
    except (AttributeError, OSError, RuntimeError, ValueError):
        pass  # none at all, the author's own kind, closed, or in the middle of a write
