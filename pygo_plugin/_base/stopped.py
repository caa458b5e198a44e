"""The event that a server's stop() returns.

It has a module of its own because it imports threading, which a plugin's start must not.
"""

from __future__ import annotations

from threading import Event

from pygo_plugin._base.core import _core

__all__ = ["Stopped"]


class Stopped(Event):
    """An event that is set when the server has stopped. It asks the core instead of being set."""

    def __init__(self, core: _core.Server | _core.NetRpcPlugin) -> None:
        super().__init__()
        self._core = core
        if core.wait(0):  # raises ForkedError in a forked child
            self.set()

    def is_set(self) -> bool:
        """Whether the server has stopped."""
        return super().is_set() or self._core.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped, at most `timeout` seconds. Returns: whether it has."""
        return super().is_set() or _core.call_blocking(self._core.wait, timeout)
