"""How plugins and the core's threads end when the interpreter exits."""

from __future__ import annotations

import atexit
import sys

from pygo_plugin._base.core import _core

__all__ = ["register"]

_registered = False
ending = False  # whether all plugins are being killed, so that no client may start another


def register() -> None:
    """Have the core shut down at interpreter exit, and prepare it for green threads. Idempotent.

    When atexit's functions run, the main program and its non-daemon threads, which may use plugins
    until their last line, have ended. Daemon threads and the core's threads still run.
    """
    global _registered
    if "gevent" in sys.modules or "eventlet" in sys.modules:
        from pygo_plugin._base.green import prepare

        prepare()
    if not _registered:
        _registered = True
        atexit.register(_shutdown)


def _shutdown() -> None:
    global ending
    # A forked child inherits this function, but neither the plugins nor the core's threads.
    if not _core.forked():
        green = sys.modules.get("pygo_plugin._base.green")
        if green is not None:
            green.end()
        ending = True
        supervisors = sys.modules.get("pygo_plugin._supervise.driver")
        if supervisors is not None:
            supervisors.end()
        try:
            _core.kill_all(False)
        finally:
            ending = False
        guard = sys.modules.get("pygo_plugin._host.guard")
        if guard is not None:
            guard.stop()
        _core.shutdown()
