"""The event that a server's stop() gives. Apart: a plugin's start does not import threading."""

from __future__ import annotations

from threading import Event

from pygo_plugin._base.core import _core

__all__ = ["Stopped"]


class Stopped(Event):
    """Set when the server has stopped. Asks the core, so that no thread has to wait and set it."""

    def __init__(self, core: _core.Server) -> None:
        super().__init__()
        self._core = core
        if core.wait(0):  # which a forked child is refused
            self.set()

    def is_set(self) -> bool:
        """Whether the server has stopped."""
        return super().is_set() or self._core.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped, at most `timeout` seconds. Whether it has."""
        return super().is_set() or _core.call_blocking(self._core.wait, timeout)
