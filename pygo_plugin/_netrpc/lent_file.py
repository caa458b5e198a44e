"""Files of this side that the other side reads or writes, as raw bytes of a stream."""

from __future__ import annotations

import io
import threading
from typing import Any

from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.mux_broker import TIMEOUT, check_mode
from pygo_plugin.errors import BrokerError, ClosedError, ConfigError

__all__ = ["lend"]

PART = 64 * 1024  # bytes that are copied at once


def lend(core: _core.MuxBroker, service_id: int, file: Any, mode: str, timeout: float) -> LentFile:
    """Accept `service_id` on a thread, and copy between `file` and the stream.

    Raises: ConfigError if it is not clear which of them is copied to the other, or the file cannot
    be used so.
    """
    return LentFile(core, service_id, file, _is_read(file, mode), timeout)


def _is_read(file: Any, mode: str) -> bool:
    """Whether the other side reads the file."""
    if isinstance(file, io.TextIOBase):
        raise ConfigError(
            f"serve_io() takes a binary file object, not the text file {file!r}: open it with "
            f'mode "rb" or "wb"'
        )
    reads, writes = (_can(file, what) for what in ("readable", "writable"))
    if mode:
        asked = check_mode(mode)
        if not (reads if asked else writes):
            raise ConfigError(
                f"serve_io() with mode {mode!r} needs a file object that can be "
                f"{'read' if asked else 'written'}, and {file!r} cannot"
            )
        return asked
    if reads == writes:
        raise ConfigError(
            f"serve_io() takes a binary file object that can be read or written, not {file!r}"
            if not reads
            else 'the file can be read and be written: serve_io() needs a mode, "rb" if the other '
            'side reads, or "wb"'
        )
    return reads


def _can(file: Any, what: str) -> bool:
    method = getattr(file, what, None)
    if callable(method):
        return bool(method())
    return hasattr(file, "read" if what == "readable" else "write")


class LentFile:
    """A file that is being lent. `stop()` ends that."""

    def __init__(
        self, core: _core.MuxBroker, service_id: int, file: Any, reads: bool, timeout: float
    ) -> None:
        self._core = core
        self._id = service_id
        self._file = file
        self._reads = reads  # the other side does
        self._timeout = timeout
        self._lock = threading.Lock()
        self._stream: _core.NetRpcFile | None = None  # once the other side has dialled
        self._stopped = False
        self._done = threading.Event()
        threading.Thread(target=self._run, name="pygo-lend", daemon=True).start()

    def stop(self) -> None:
        """End the connection. A file that is written gets first what the other side has sent."""
        with self._lock:
            self._stopped = True
            stream = self._stream
        if stream is not None:
            if not self._reads:
                self._done.wait(TIMEOUT)
            stream.close()

    def _run(self) -> None:
        try:
            stream = self._core.accept_file(self._id, self._timeout)
        except (BrokerError, ClosedError):
            self._done.set()  # it was not dialled
            return
        with self._lock:
            self._stream = stream
            stopped = self._stopped
        try:
            if not stopped:
                (self._send if self._reads else self._receive)(stream)
        except ClosedError:
            pass  # the other side has closed its end, or stop() was called
        except Exception as error:
            import logging

            logging.getLogger("pygo_plugin.server").error(
                "the file %r, which was lent to the other side, has failed: %s",
                *(self._file, error),
                exc_info=(type(error), error, error.__traceback__),
            )
        finally:
            self._done.set()
            stream.close()

    def _send(self, stream: _core.NetRpcFile) -> None:
        # read1() returns what is available, where read() on a pipe would wait for all of it.
        read = getattr(self._file, "read1", self._file.read)
        while data := read(PART):
            stream.write(data, None)

    def _receive(self, stream: _core.NetRpcFile) -> None:
        buffer = bytearray(PART)
        view = memoryview(buffer)
        while found := stream.read_into(buffer, None):
            at = 0
            while at < found:  # a raw file may write only a part
                written = self._file.write(view[at:found])
                at = found if written is None else at + written
        if hasattr(self._file, "flush"):
            self._file.flush()
