"""What a process holds, counted: memory, objects, descriptors, threads, processes, sockets."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pygo_plugin import _core

PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1 << 20
BLOCKS = 2500  # the allocator's, that may come and go with caches
PLUGIN_MEMORY = 3  # times the limit: each of up to 33 workers has an arena, which is not trimmed

# gRPC's pools, which grow and shrink as it sees fit.
GRPC_THREADS = ("grpc", "default-executo", "resolver-execut", "event_engine", "timer_manager")
# What it keeps descriptors of, and makes when it first needs them.
GRPC_DESCRIPTORS = ("anon_inode:[eventfd]", "anon_inode:[eventpoll]")


class PluginCount(NamedTuple):
    memory: float  # MB resident
    descriptors: int


class Count(NamedTuple):
    memory: float  # MB resident
    blocks: int  # of Python's allocator
    calls: int  # our calls' Python objects
    objects: collections.Counter[str]  # Python's containers by type
    descriptors: collections.Counter[str]  # by kind or path
    threads: collections.Counter[str]  # by name, without gRPC's
    children: int
    sockets: int  # files
    plugins: dict[int, PluginCount]  # by process id

    def __str__(self) -> str:
        plugins = ", ".join(f"{p.memory:.1f} MB {p.descriptors} fds" for p in self.plugins.values())
        return (
            f"{self.memory:.1f} MB, {self.blocks} blocks, {sum(self.objects.values())} objects, "
            f"{self.calls} calls, {sum(self.descriptors.values())} fds, "
            f"{sum(self.threads.values())} threads, {self.children} children, "
            f"{self.sockets} sockets; plugins: {plugins or 'none'}"
        )


def memory_of(pid: int | str) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MB


def descriptors_of(pid: int | str) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            # Without the number of a pipe or a socket, which differs each time.
            found[target if target.startswith("anon") else target.partition(":[")[0]] += 1
    return found


# Threads of the worker pools that may be idle: others end after 10 s, those of net/rpc after 20 s.
IDLE_WORKERS = {"gp-worker": 5, "gp-netrpc": 8}


def own_threads() -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for path in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            name = path.read_text().strip()
            if not name.startswith(GRPC_THREADS):
                found[name] += 1
    for name, idle in IDLE_WORKERS.items():
        found[name] = max(found[name] - idle, 0)
    return +found


class Census:
    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets

    def await_threads(self) -> None:
        """Wait until threads that feed calls or supervise, and idle workers, have ended."""
        end = time.monotonic() + 30
        last, since = own_threads(), time.monotonic()
        while time.monotonic() < min(end, since + 0.5):
            time.sleep(0.05)
            gc.collect()
            now = own_threads()
            feeding = any(
                t.name == "pygo-feed" or t.name.startswith("pygo-supervise")
                for t in threading.enumerate()
            )
            if now != last or feeding or any(now[name] for name in IDLE_WORKERS):
                last, since = now, time.monotonic()

    def take(self, plugins: Iterable[int] = ()) -> Count:
        for _ in range(3):
            gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: what it keeps is no leak
        if trim is not None:
            trim(0)
        things = gc.get_objects()
        children = Path("/proc/self/task").glob("*/children")
        return Count(
            memory_of("self"),
            sys.getallocatedblocks(),
            sum(isinstance(thing, _core.CallBase) for thing in things),
            collections.Counter(f"{type(t).__module__}.{type(t).__qualname__}" for t in things),
            descriptors_of("self"),
            own_threads(),
            sum(len(path.read_text().split()) for path in children),
            sum(path.is_socket() for path in self._sockets.rglob("*")),
            {
                pid: PluginCount(memory_of(pid), sum(descriptors_of(pid).values()))
                for pid in plugins
            },
        )


def compare(first: Count, last: Count, limit: float) -> list[str]:
    """What has grown between two moments at which as much was going on."""
    found = compare_plugins(first.plugins, last.plugins, limit * PLUGIN_MEMORY)
    if last.memory - first.memory > limit:
        found.append(f"memory has grown from {first.memory:.1f} to {last.memory:.1f} MB")
    if last.blocks - first.blocks > BLOCKS:
        more = last.objects - first.objects
        found.append(f"{last.blocks - first.blocks} more blocks, {more.most_common(5)}")
    for name in ("calls", "children", "sockets"):
        if getattr(last, name) > getattr(first, name):
            found.append(f"{name}: {getattr(first, name)}, later {getattr(last, name)}")
    for name in ("descriptors", "threads"):
        if more := getattr(last, name) - getattr(first, name):
            found.append(f"more {name}: {dict(more)}")
    return found


def compare_plugins(
    first: dict[int, PluginCount], last: dict[int, PluginCount], limit: float
) -> list[str]:
    return [
        f"plugin {pid}: {first[pid]}, later {now}"
        for pid, now in last.items()
        if now.memory - first[pid].memory > limit or now.descriptors > first[pid].descriptors
    ]
