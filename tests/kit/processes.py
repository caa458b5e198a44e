"""What the kernel says of processes: whether they have ended, and what memory they have."""

from __future__ import annotations

from pathlib import Path


def has_ended(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    # The name, in parentheses, may hold anything: parse behind it.
    return stat.rpartition(")")[2].split()[0] in "ZX"


def is_reaped(pid: int) -> bool:
    """Whether there is no such process any more."""
    return not Path(f"/proc/{pid}").exists()


def memory(pid: int | str = "self") -> int:
    """What the process has in memory, in MiB."""
    return _status(pid, "VmRSS:") >> 10


def most_memory(pid: int | str = "self") -> int:
    """The most that the process has ever had in memory, in MiB."""
    return _status(pid, "VmHWM:") >> 10


def forget_most_memory(pid: int | str = "self") -> None:
    """From now on, most_memory() says what the process has had since now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int | str, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
