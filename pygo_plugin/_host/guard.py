"""Kills the groups of plugins with `kill_group` when their host has died without ending them.

`start()` runs this file as a program of its own, one for each host, which imports nothing of the
package. The program waits until the host ends and gives plugins the time to notice that and exit.
Then it kills all processes with the host's mark in their environment (csrc/os/process/group.h).
"""

from __future__ import annotations

import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

VARIABLE = "PYGO_PLUGIN_GROUP"
EXIT_TIME = 6.0  # seconds; a plugin of this package exits within five

# ---- In the host ---------------------------------------------------------------------------------

_name = ""  # the prefix of the marks of this host's groups
_process: subprocess.Popen[bytes] | None = None
_owner = 0  # the id of the process that has set `_name` and `_process`
_lock = threading.Lock()


def start() -> str:
    """Start the program that watches this process, unless it runs already.

    A process that embeds Python has no interpreter to run the program with, and is not watched.

    Returns: the prefix of the marks of this host's groups.
    """
    global _name, _owner, _process
    with _lock:
        if _owner != os.getpid():  # the first call, or a forked child with its parent's values
            _owner, _name, _process = os.getpid(), os.urandom(10).hex(), None
        if _process is None or _process.poll() is not None:
            _process = _run_program(_name)
        return _name


def stop() -> None:
    """End the program that watches. Called when the host exits and has ended its plugins."""
    global _process
    if _process is None or _owner != os.getpid():
        return
    process, _process = _process, None
    try:
        process.communicate(b"done", timeout=5)
    except Exception:  # it was killed or stopped by a signal
        process.kill()
        process.wait()


def _replace_lock() -> None:
    """Make a new lock in a forked child: another thread of the parent may have held the old one."""
    global _lock
    _lock = threading.Lock()


def _run_program(name: str) -> subprocess.Popen[bytes] | None:
    import subprocess

    interpreter = "python" in os.path.basename(sys.executable or "").lower()
    if getattr(sys, "frozen", False) or not interpreter or not hasattr(os, "pidfd_open"):
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), name, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that the terminal sends it no signals
            cwd="/",
            env={},
        )
    except OSError:
        return None


if __name__ != "__main__":
    os.register_at_fork(after_in_child=_replace_lock)


# ---- In the other program ------------------------------------------------------------------------


def _watch(name: str, host: int) -> None:
    """Wait until the process `host` ends, then end its groups unless the host has done so."""
    import select
    import signal

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, select.POLLIN)  # closed when the host ends, or replaces itself by exec
    try:
        poll.register(os.pidfd_open(host), select.POLLIN)  # type: ignore[attr-defined,unused-ignore]
    except ProcessLookupError:
        pass
    else:
        if os.getppid() == host:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if 0 in ready and os.read(0, 1):
                return
    _end_groups(f"{VARIABLE}={name}.".encode())


def _end_groups(mark: bytes) -> None:
    """Wait until no process has the mark, and kill those that still run after EXIT_TIME."""
    import time

    deadline = time.monotonic() + EXIT_TIME
    # How many checks in a row found no process. One is not enough, since a process in the middle of
    # exec has no environment to read.
    empty = 0
    while empty < 3 and time.monotonic() < deadline:
        empty = 0 if _members(mark) else empty + 1
        time.sleep(0.05)
    while empty < 3 and time.monotonic() < deadline + 1:
        empty = 0 if _kill_members(mark) else empty + 1
        time.sleep(0.01)


def _kill_members(mark: bytes) -> bool:
    """Kill all members. Returns: whether there were any."""
    import select
    import signal

    members = _members(mark)
    for pid in members:
        try:
            pidfd = os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            continue
        try:
            # The process id may have been reused before pidfd_open(). If the process has the mark
            # and has not ended after that, the descriptor is that of a member.
            if _is_marked(pid, mark) and not select.select([pidfd], [], [], 0)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            pass
        finally:
            os.close(pidfd)
    return bool(members)


def _members(mark: bytes) -> list[int]:
    """The ids of all processes with the mark."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if _is_marked(pid, mark)]


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return False
    return any(entry.startswith(mark) for entry in entries)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
