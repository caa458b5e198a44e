"""The host's side of what plugins print: it goes to the writers that the user has given.

Writers are text files, binary files, objects that have only `write`, or descriptors. They are
called on the core's thread for output, and may block. Then the plugin's pipe fills up, and the
plugin blocks when it prints.
"""

from __future__ import annotations

from pygo_plugin._base.core import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin.config import Writer

__all__ = ["OutputMirror", "byte_writer"]

STDOUT, STDERR = 1, 2  # as the core numbers them


class OutputMirror:
    """Gets what one plugin prints after its handshake, in order, on the core's thread.

    Each of the plugin's two descriptors has one writer. An exception of a writer is reported to
    sys.unraisablehook. The writer is not called again, and the rest of its output is discarded.
    """

    def __init__(self, stdout: Writer | int | None, stderr: Writer | int | None) -> None:
        self._writers: dict[int, Callable[[bytes], object]] = {}
        if stdout is not None:
            self._writers[STDOUT] = byte_writer(stdout)
        if stderr is not None:
            same = stderr is stdout  # then both share a decoder
            self._writers[STDERR] = self._writers[STDOUT] if same else byte_writer(stderr)

    def __call__(self, channel: int, data: bytes) -> None:
        write = self._writers.get(channel)
        if write is None:
            return
        try:
            write(data)
        except BaseException as error:  # must not end the core's thread
            self._writers = {c: w for c, w in self._writers.items() if w is not write}
            _core.unraisable(error, self)


def byte_writer(target: Writer | int) -> Callable[[bytes], object]:
    """A function that writes bytes to `target`, decoded as UTF-8 if it takes text, and flushes."""
    import io

    if isinstance(target, int):
        descriptor = target
        return lambda data: _write_all(descriptor, data)
    if isinstance(target, io.FileIO):  # its write() may write only a part
        file = target
        return lambda data: _write_all(file.fileno(), data)
    write = target.write
    flush = getattr(target, "flush", None)
    decoder: Any = None

    def copy(data: bytes) -> None:
        nonlocal decoder
        if decoder is None:
            if not _takes_text(target):
                try:
                    write(data)
                except TypeError:
                    pass  # it takes text, though it does not look like a text file
                else:
                    if flush is not None:
                        flush()
                    return
            import codecs

            # An incremental decoder, because a chunk may end inside a character.
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
        write(decoder.decode(data))
        if flush is not None:
            flush()

    return copy


def _takes_text(target: Writer) -> bool:
    import io

    if isinstance(target, io.IOBase):
        return isinstance(target, io.TextIOBase)
    return hasattr(target, "encoding")  # tempfile's wrappers and the like


def _write_all(descriptor: int, data: bytes) -> None:
    import os

    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            import select

            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()
