"""Writes a line "panic: ..." to stderr when a plugin ends because of a failure.

Hosts made with go-plugin recognize a crash by this line, and log it and the lines after it as
errors. Terraform shows these lines to its user, and no others of the plugin. Therefore the line is
written before the traceback of an uncaught exception, and before faulthandler's report of a fatal
signal. This is done only in a process that a host has launched.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

__all__ = ["announce", "is_announced", "log_to", "write", "write_to_parents_log"]

STDERR = 2  # the descriptor
LONGEST = 4096  # characters of a summary; the traceback has the rest

_pid = 0  # the id of the process that has called announce(); 0 before that
_descriptor = STDERR  # a descriptor of the original standard error
_hook: Callable[..., Any] | None = None  # the hook that announce() has set last
_announced: BaseException | None = None  # the exception whose line has been written


def announce() -> None:
    """From now on, announce failures that end this process. Idempotent.

    If the author has set a `sys.excepthook`, it still prints the traceback.
    """
    global _pid, _hook
    if sys.excepthook is not _hook:
        _hook = sys.excepthook = _announcing(sys.excepthook)
    if _pid != os.getpid():
        _pid = os.getpid()
        import faulthandler

        from pygo_plugin._base.core import _core

        _core.fatal_report_enable()
        if not faulthandler.is_enabled():
            # Only the thread that crashes: Terraform shows at most a hundred lines.
            faulthandler.enable(STDERR, all_threads=False)
            _core.fatal_report_enable()  # again, so that it writes its line before faulthandler


def is_announced() -> bool:
    """Whether announce() was called in this process, which a host then has launched."""
    return _pid == os.getpid()


def log_to(descriptor: int) -> None:
    """Write to `descriptor`, the original standard error, after descriptor 2 was replaced."""
    global _descriptor
    _descriptor = descriptor
    if sys.platform == "linux":
        os.environ["PYGO_PLUGIN_LOG"] = f"/proc/{os.getpid()}/fd/{descriptor}"  # for children


def write_to_parents_log(line: str) -> bool:
    """Write a line to the log of the plugin whose child process this is. Returns: whether it could.

    Descriptor 2 of such a child leads to the host's sync_stderr, which few hosts show.
    """
    try:
        # Neither this nor the write waits for a host that does not read or has ended.
        log = os.open(os.environ["PYGO_PLUGIN_LOG"], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (KeyError, OSError, ValueError):
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(log).st_mode):  # the variable is outdated
            return False
        os.write(log, line.encode())
    except OSError:
        return False
    finally:
        os.close(log)
    return True


def write(message: str) -> None:
    """Write the line "panic: " with the message."""
    try:
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # there is no stderr, or it is closed
    line = memoryview(f"panic: {message}\n".encode("utf-8", "backslashreplace"))
    try:
        while line:
            line = line[os.write(_descriptor, line) :]
    except OSError:
        pass  # the host has ended, or the process was started without a standard error


def _announcing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that writes the line, then calls the given one."""

    def uncaught(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        global _announced
        # Not in a forked child, which is not the plugin. Not for Ctrl-C, which is no failure. Only
        # once, because the given hook may call another hook of this kind.
        if is_announced() and _announced is not error and not issubclass(kind, KeyboardInterrupt):
            _announced = error
            write(_summary(kind, error))
        current = sys.stderr
        if hook is sys.__excepthook__ and sys.__stderr__ is not None:
            sys.stderr = sys.__stderr__  # which leads where the line is written: see stdio.py
        try:
            hook(kind, error, traceback)
        finally:
            sys.stderr = current
            _announced = None

    return uncaught


def _summary(kind: type[BaseException], error: BaseException) -> str:
    """The first line of the end of a traceback, "TYPE: MESSAGE", cut at LONGEST characters."""
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        text = str(error)
    except Exception:
        text = "<exception str() failed>"
    first = next((line for line in text.splitlines() if line.strip()), "")[:LONGEST]
    return f"{name}: {first}" if first else name
