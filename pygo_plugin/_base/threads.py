"""Makes the core's threads that run the user's code known to the module threading.

The core has it imported on such a thread, once the program has imported threading.
"""

from __future__ import annotations

import itertools
import sys
import threading

__all__ = ["register_thread", "unregister_thread"]

_counts: dict[str, itertools.count[int]] = {}


def register_thread(name: str) -> threading.Thread:
    """Register this thread under the name and a number. Called by the core.

    It gets the trace and profile functions that each threading.Thread gets, by which coverage,
    debuggers and profilers work.
    """
    thread = threading.current_thread()  # registers a thread that Python has not started
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
    """Unregister this thread, which ends. Called by the core."""
    if sys.version_info < (3, 13):  # later versions do it themselves
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._active.pop(thread.ident, None)  # type: ignore[attr-defined]
