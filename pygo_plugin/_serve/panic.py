"""Announces that a plugin ends because of a failure: a line "panic: ..." on stderr.

Hosts made with go-plugin recognise a crash by this line, and log it and the lines after it as
errors. Terraform shows them to its user, and nothing else that a plugin writes. Therefore the line
precedes the traceback of an uncaught exception, and what faulthandler says of a fatal signal.
This is done only in a process that a host has launched.
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

__all__ = ["announce", "is_announced", "log_to", "say", "write_to_parents_log"]

STDERR = 2  # the descriptor
LONGEST = 4096  # characters of a summary: the traceback has the rest

_pid = 0  # of the process that announces its end; 0: none does
_descriptor = STDERR  # the original one, wherever it is by now
_hook: Callable[..., Any] | None = None  # the latest of ours
_told: BaseException | None = None  # the exception whose line has been written


def announce() -> None:
    """From now on, announce failures that end this process. Idempotent.

    A `sys.excepthook` of the author's stays in use, and prints the traceback.
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
            # The crashing thread alone: Terraform shows no more than a hundred lines.
            faulthandler.enable(STDERR, all_threads=False)
            _core.fatal_report_enable()  # again, so that the line comes before the report


def is_announced() -> bool:
    """Whether this process was launched by a host, as far as is known by now."""
    return _pid == os.getpid()


def log_to(descriptor: int) -> None:
    """Where the original standard error is, now that descriptor 2 is replaced."""
    global _descriptor
    _descriptor = descriptor
    if sys.platform == "linux":
        os.environ["PYGO_PLUGIN_LOG"] = f"/proc/{os.getpid()}/fd/{descriptor}"  # for children


def write_to_parents_log(line: str) -> bool:
    """Write a line to the log of the plugin whose child this process is, if that is possible.

    Descriptor 2 of such a child leads to the host's sync_stderr, which few hosts look at.
    """
    try:
        # Neither this nor the write waits for a host that does not read, or has gone.
        log = os.open(os.environ["PYGO_PLUGIN_LOG"], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (KeyError, OSError, ValueError):
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(log).st_mode):  # not what the variable says, any more
            return False
        os.write(log, line.encode())
    except OSError:
        return False
    finally:
        os.close(log)
    return True


def say(message: str) -> None:
    """Write the line: "panic: " and the message."""
    try:
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # none at all, or closed
    line = memoryview(f"panic: {message}\n".encode("utf-8", "backslashreplace"))
    try:
        while line:
            line = line[os.write(_descriptor, line) :]
    except OSError:
        pass  # the host has gone, or there never was a standard error


def _announcing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that writes the line, then calls the given one."""

    def uncaught(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        global _told
        # Not in a forked child, which is not the plugin; not for Ctrl-C, which is no failure; and
        # once, because the given hook may in turn call another one of these.
        if is_announced() and _told is not error and not issubclass(kind, KeyboardInterrupt):
            _told = error
            say(_summary(kind, error))
        current = sys.stderr
        if hook is sys.__excepthook__ and sys.__stderr__ is not None:
            sys.stderr = sys.__stderr__  # where the line is, too (see _serve/stdio.py)
        try:
            hook(kind, error, traceback)
        finally:
            sys.stderr = current
            _told = None

    return uncaught


def _summary(kind: type[BaseException], error: BaseException) -> str:
    """What the last line of a traceback says, cut to one line."""
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        text = str(error)
    except Exception:
        text = "<exception str() failed>"
    first = next((line for line in text.splitlines() if line.strip()), "")[:LONGEST]
    return f"{name}: {first}" if first else name
