"""The plugin's side of what it prints: sends what descriptors 1 and 2 get to the host."""

from __future__ import annotations

import os
import sys
from io import FileIO, TextIOWrapper

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Stdio", "keep_stderr"]

END_TIMEOUT = 1.0  # seconds that the end waits for a host that reads slowly or not at all

STDERR = 2  # the descriptor


class Stdio:
    """Standard output and standard error of this process, which StreamStdio sends to the host.

    From `open()` to `end()` the descriptors are pipes, which one host at a time reads. Before and
    after that they are those that the process was started with.
    """

    def __init__(self) -> None:
        self.core = _core.Stdio()
        self._pid = os.getpid()
        self._buffering: list[tuple[Any, bool]] = []  # streams, and whether they were line-buffered

    def open(self, line: bytes) -> None:
        """Replace the descriptors, then write the line to the original standard output.

        The descriptors come first, because a host that has read the line may call a handler that
        prints. From now on Python's streams are line-buffered.

        Raises: OSError, or ConfigError (a ValueError) if they have been replaced already. Then
        nothing has been changed.
        """
        self.core.open(line)
        _each_stream("reconfigure", line_buffering=True)

    def borrow(self) -> None:
        """Replace the descriptors in a process that does more than serve, until `end()`.

        What was printed before goes to the original descriptors. `end()` restores the buffering.

        Raises: as `open`.
        """
        _each_stream("flush")
        streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
        buffering = [(s, s.line_buffering) for s in streams if hasattr(s, "line_buffering")]
        self.open(b"")
        self._buffering = buffering

    def finish(self) -> None:
        """Restore the descriptors. The host gets what was written before. Never blocks."""
        if os.getpid() == self._pid:
            _each_stream("flush")
            self.core.finish(END_TIMEOUT)

    def end(self) -> None:
        """Restore the descriptors, and wait at most a second until the host has got everything.

        Idempotent.
        """
        if os.getpid() == self._pid:
            _each_stream("flush")
            buffering, self._buffering = self._buffering, []
            for stream, by_line in buffering:
                _call(stream, "reconfigure", line_buffering=by_line)
            self.core.end(END_TIMEOUT)


def keep_stderr(log: int, sync: bool) -> None:
    """Have `sys.stderr` write to the log when descriptor 2 is replaced.

    The stream object stays the same and gets another descriptor, because handlers of `logging` and
    sinks of other libraries may hold a reference to it.

    log   a duplicate of the original standard error, which stays open until the process ends
    sync  whether the host wants what is written to `sys.stderr`, which then becomes a new stream on
          descriptor 2
    """
    current: Any = sys.stderr
    streams: list[Any] = [sys.__stderr__]
    if current is not sys.__stderr__:
        streams.append(current)
    replaced = False
    for stream in streams:
        file = _file_on_stderr(stream)
        if file is None:
            continue  # it is None or closed, or its class is not Python's
        name = file.name
        file.__init__(log, "wb", closefd=False)  # type: ignore[misc]  # the same object
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
    """The file below the stream, if that is Python's own and writes to descriptor 2."""
    file = getattr(stream, "buffer", None)
    file = getattr(file, "raw", file)  # with python -u there is no buffer around it
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
        pass  # it is None or closed, its class is not Python's, or a write is under way
