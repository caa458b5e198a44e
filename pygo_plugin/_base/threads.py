"""The core's threads that run the user's code, as the module threading knows threads.

Imported by the core on such a thread, once the program has imported threading.
"""

from __future__ import annotations

import itertools
import sys
import threading

__all__ = ["register_thread", "unregister_thread"]

_counts: dict[str, itertools.count[int]] = {}


def register_thread(name: str) -> threading.Thread:
    """Make this thread one that threading knows, under the name and a number. Called by the core.

    Tools that see what runs, such as coverage, debuggers and profilers, are set for it as they are
    for each threading.Thread.
    """
    thread = threading.current_thread()  # makes it known, as any thread not started by Python
    thread.name = f"{name}-{next(_counts.setdefault(name, itertools.count(1)))}"
    if sys.version_info >= (3, 10):
        profile, trace = threading.getprofile(), threading.gettrace()
    else:
        profile, trace = threading._profile_hook, threading._trace_hook
    if profile is not None:
        sys.setprofile(profile)
    if trace is not None:
        sys.settrace(trace)
    return thread


def unregister_thread(thread: threading.Thread) -> None:
    """This thread ends. Called by the core."""
    if sys.version_info < (3, 13):  # which does so by itself
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._active.pop(thread.ident, None)  # type: ignore[attr-defined]
