"""gevent and eventlet, whose green threads share a thread that nothing may block.

With gevent, waits of calls let the other greenlets run until the core makes a descriptor readable;
what else takes long is done by a thread of its own meanwhile. That goes for threads that have a hub
by then: handlers and callbacks run on the core's threads, which have none.

eventlet's locks do not stand threads that it has not made, such as the core's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from . import _core
from .errors import ConfigError

__all__ = ["prepare"]

_prepared = False


def prepare() -> None:
    """Look which of the two is in use. Idempotent.

    Raises: ConfigError if eventlet has patched the standard library.
    """
    global _prepared
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.already_patched:
        patched = ", ".join(sorted(name for name, done in patcher.already_patched.items() if done))
        raise ConfigError(
            f"pygo_plugin does not work in a process that eventlet has monkey-patched ({patched}): "
            "its threads need the real locks of threading, and its calls would block eventlet's "
            "hub. Use gevent, or threads without eventlet.monkey_patch(), or asyncio with "
            "pygo_plugin.aio"
        )
    if not _prepared and "gevent.hub" in sys.modules:
        from gevent import _hub_local, getcurrent

        _prepared = True
        _core.share_threads(_hub_local.get_hub_if_exists, getcurrent, _wait, _elsewhere)


class _TimedOut(Exception):
    pass


def _wait(fd: int, timeout: float | None) -> None:
    """Let others run until the descriptor is readable. Called by the core."""
    import gevent
    from gevent.socket import wait_read

    if fd < 0:
        gevent.sleep(timeout)
        return
    try:
        wait_read(fd, timeout, _TimedOut)
    except _TimedOut:
        pass


def _elsewhere(function: Callable[..., Any], *args: Any) -> Any:
    """Call the function on a thread of its own, while other greenlets run.

    If this greenlet is killed meanwhile, or given up by a gevent.Timeout, the function goes on.
    """
    from gevent import _hub_local, getcurrent
    from gevent.monkey import get_original

    if _hub_local.get_hub_if_exists() in (None, getcurrent()):  # nobody to let run, or the hub
        return function(*args)

    outcome: list[tuple[Any, BaseException | None]] = []
    done, finish = os.pipe()

    def run() -> None:
        try:
            outcome.append((function(*args), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            os.close(finish)

    try:
        get_original("_thread", "start_new_thread")(run, ())
    except BaseException:
        os.close(finish)
        os.close(done)
        raise
    try:
        _wait(done, None)
    finally:
        os.close(done)
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result
