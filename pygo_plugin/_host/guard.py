"""What ends the groups of plugins with `kill_group` whose host has died without a word.

`start()` runs this very file as another program, one for each host, which imports nothing of the
package. It waits for the host's end, gives plugins that notice it themselves the time to leave, and
kills what has the host's mark in its environment after that (csrc/os/process/group.h).
"""

from __future__ import annotations

import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

VARIABLE = "PYGO_PLUGIN_GROUP"
PATIENCE = 6.0  # seconds; a plugin of this package leaves within five

# ---- In the host ---------------------------------------------------------------------------------

_name = ""
_process: subprocess.Popen[bytes] | None = None
_owner = 0
_lock = threading.Lock()


def start() -> str:
    """Have this process watched, unless it is. Returns: what the marks of its groups begin with.

    Without an interpreter to run, as in programs that embed one, nobody watches.
    """
    global _name, _owner, _process
    with _lock:
        if _owner != os.getpid():  # in a forked child they are the parent's
            _owner, _name, _process = os.getpid(), os.urandom(10).hex(), None
        if _process is None or _process.poll() is not None:
            _process = _run(_name)
        return _name


def stop() -> None:
    """The host is about to exit, and has left nothing."""
    global _process
    if _process is None or _owner != os.getpid():
        return
    process, _process = _process, None
    try:
        process.communicate(b"done", timeout=5)
    except Exception:  # it has been killed, or stopped
        process.kill()
        process.wait()


def _forget_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent's may have held it


def _run(name: str) -> subprocess.Popen[bytes] | None:
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
            start_new_session=True,  # no terminal's end or Ctrl-C concerns it
            cwd="/",
            env={},
        )
    except OSError:
        return None


if __name__ != "__main__":
    os.register_at_fork(after_in_child=_forget_lock)


# ---- In the other program ------------------------------------------------------------------------


def _watch(name: str, host: int) -> None:
    import select
    import signal

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ends = select.poll()
    ends.register(0, select.POLLIN)  # closed by the host's end, and when it runs another program
    try:
        ends.register(os.pidfd_open(host), select.POLLIN)  # type: ignore[attr-defined,unused-ignore]
    except ProcessLookupError:
        pass
    else:
        if os.getppid() == host:
            ready = [descriptor for descriptor, _ in ends.poll()]
            if 0 in ready and os.read(0, 1):
                return
    _end_groups(f"{VARIABLE}={name}.".encode())


def _end_groups(mark: bytes) -> None:
    import time

    deadline = time.monotonic() + PATIENCE
    looks = 0  # in a row that saw nobody; a process between two programs is not seen by one
    while looks < 3 and time.monotonic() < deadline:
        looks = 0 if _members(mark) else looks + 1
        time.sleep(0.05)
    while looks < 3 and time.monotonic() < deadline + 1:
        looks = 0 if _kill(mark) else looks + 1
        time.sleep(0.01)


def _kill(mark: bytes) -> bool:
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
            # Looked at once more: if it lives after that, the descriptor is that of a member.
            if _is_marked(pid, mark) and not select.select([pidfd], [], [], 0)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            pass
        finally:
            os.close(pidfd)
    return bool(members)


def _members(mark: bytes) -> list[int]:
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
