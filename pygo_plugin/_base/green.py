"""gevent and eventlet, whose green threads share one thread, which must not be blocked.

On threads with a gevent hub, a call that waits lets other greenlets run until the core makes a
descriptor readable; other functions that block run on a new thread. Handlers run on the core's
threads, which have no hub. Once gevent has patched threading, callbacks, log handlers and writers
run in greenlets of the main hub, because gevent's locks lose wake-ups between threads.

eventlet is refused once it has patched the standard library: its locks do not work on threads that
it has not made, such as the core's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from pygo_plugin._base.core import _core
from pygo_plugin.errors import ConfigError

__all__ = ["prepare"]

_prepared = False
_ended = False


def prepare() -> None:
    """Find out which of the two is in use, and tell the core. Idempotent.

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
        call_user = _GreenletCaller().call if _has_patched_locks() else None
        _core.share_threads(
            _hub_local.get_hub_if_exists, getcurrent, _wait, _call_on_thread, call_user
        )


def end() -> None:
    """Note that the interpreter exits, so that no greenlet will run any more."""
    global _ended
    _ended = True


def _has_patched_locks() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


class _GreenletCaller:
    """Calls functions in greenlets of the thread that makes it, on behalf of other threads.

    The functions may use gevent's locks, for instance logging's, which work only in greenlets.
    """

    _CHECK_INTERVAL = 0.1  # seconds between checks whether greenlets still run

    def __init__(self) -> None:
        import gevent
        from gevent.monkey import get_original

        self._hub = gevent.get_hub()
        self._spawn = gevent.spawn
        self._make_lock = get_original("_thread", "allocate_lock")

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function in a greenlet and return its result. Blocks this thread."""
        outcome: list[tuple[Any, BaseException | None]] = []
        due = [True]  # emptied by the thread that calls the function, so that no other calls it
        done = self._make_lock()
        done.acquire()

        def run() -> None:
            try:
                due.pop()
            except IndexError:
                return
            try:
                outcome.append((function(*args), None))
            except BaseException as error:
                outcome.append((None, error))
            done.release()

        if not _ended:
            self._hub.loop.run_callback_threadsafe(self._spawn, run)
        while not done.acquire(True, 0 if _ended else self._CHECK_INTERVAL):
            if _ended and due:
                run()
            elif _ended:
                raise RuntimeError("the interpreter exits before the greenlet has run the function")
        result, error = outcome.pop()
        if error is not None:
            raise error
        return result


class _TimedOut(Exception):
    pass


def _wait(fd: int, timeout: float | None) -> None:
    """Let other greenlets run until the descriptor is readable. Called by the core."""
    import gevent
    from gevent.socket import wait_read

    if fd < 0:
        gevent.sleep(timeout)
        return
    try:
        wait_read(fd, timeout, _TimedOut)
    except _TimedOut:
        pass


def _call_on_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call the function on a new thread while other greenlets run. Called by the core.

    The function goes on if this greenlet is killed, or interrupted by a gevent.Timeout.
    """
    from gevent import _hub_local, getcurrent
    from gevent.monkey import get_original

    if _hub_local.get_hub_if_exists() in (None, getcurrent()):  # no hub, or this is the hub
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
