"""What happens to plugins and to the core's threads when the interpreter exits."""

from __future__ import annotations

import atexit
import sys

from pygo_plugin._base.core import _core

__all__ = ["register"]

_registered = False
ending = False  # plugins are being killed for good, and no other may start meanwhile


def register() -> None:
    """Have the core shut down at interpreter exit, and heed green threads. Idempotent.

    atexit is the right moment: the main program and its non-daemon threads, which may still be
    using plugins, are done, while daemon threads and the core's own have not been torn down yet.
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
    # A forked child inherits this callback and neither the plugins nor the threads.
    if not _core.forked():
        green = sys.modules.get("pygo_plugin._base.green")
        if green is not None:
            green.end()
        ending = True
        try:
            _core.kill_all(False)
        finally:
            ending = False
        guard = sys.modules.get("pygo_plugin._host.guard")
        if guard is not None:
            guard.stop()
        _core.shutdown()
