"""Resident memory of host and plugin: at work, for open calls, for each of many plugins."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from contenders import pair
from lab import (
    BARE,
    GO,
    GRPC_AIO,
    GRPCIO,
    OPTIONAL,
    OURS,
    OURS_AIO,
    TIMEOUT,
    Failed,
    Lab,
    children,
    end_group,
    first_line,
)
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_EVERY = 0.02  # seconds
FIRST_CALLS = 1000
FIELDS = {"rss": "VmRSS", "anonymous": "RssAnon"}
OPEN_CALLS = 1000
PLUGINS = 200
SPARE_WORKERS = 50  # threads of a plugin beyond those that open calls occupy


def cases(lab: Lab, seconds: float) -> list[Case]:
    return [_calling_case(lab, seconds), _open_case(lab), _plugins_case(lab)]


def _calling_case(lab: Lab, seconds: float) -> Case:
    pairs = [(OURS, OURS), (BARE, BARE), (GO, GO), (GRPCIO, GRPCIO)]
    pairs += [(name, name) for name in OPTIONAL if name not in lab.missing]
    contenders = {pair(*names): calling_memory(lab, *names, seconds) for names in pairs}
    ours, bare, go, grpcio, *optional = contenders

    def row(what: str, ours: str, peer: str) -> Row:
        metric = f"{what.split()[0]}_rss"
        return Row(f"{what}, resident", metric, "MiB", ours, peer)

    rows = [
        *(row("host", ours, peer) for peer in (go, grpcio, *optional)),
        *(row("plugin", ours, peer) for peer in (go, grpcio, *optional)),
        *(row("host without stubs", bare, peer) for peer in (go, grpcio)),
        *(row("plugin without stubs", bare, peer) for peer in (go, grpcio)),
    ]
    return Case("memory", "while calling", contenders, rows)


def _open_case(lab: Lab) -> Case:
    names = (OURS, GO, GRPCIO, OURS_AIO, GRPC_AIO)
    contenders = {pair(name, name): _open_contender(lab, name) for name in names}
    ours, go, grpcio, ours_aio, grpc_aio = contenders

    def row(who: str, ours: str, peer: str) -> Row:
        return Row(f"{who}, more than idle", f"{who}_rss", "MiB", ours, peer)

    rows = [
        row(who, *pair)
        for who in ("host", "plugin")
        for pair in ((ours, go), (ours, grpcio), (ours_aio, go), (ours_aio, grpc_aio))
    ]
    return Case("memory", f"{OPEN_CALLS:,} open calls", contenders, rows)


def _open_contender(lab: Lab, name: str) -> Callable[[], Values]:
    command = lab.host(name, name, open=OPEN_CALLS)
    if name in (OURS, GRPCIO):  # where an open call occupies a thread of the plugin
        command.append(str(OPEN_CALLS + SPARE_WORKERS))

    def measure() -> Values:
        idle, full = _between(lab, command, {"idle": _pair_of, "open": _pair_of})
        return {key: full[key] - idle[key] for key in idle}

    return measure


def _plugins_case(lab: Lab) -> Case:
    contenders = {pair(name, GO): _plugins_contender(lab, name) for name in (OURS, GO)}
    ours, go = contenders
    rows = [
        Row("host, for each plugin, resident", "each_rss", "KiB", ours, go),
        Row("host, for each plugin, anonymous", "each_anonymous", "KiB", ours, go),
        Row("host, threads", "threads", "threads", ours, go),
        Row("host, threads beyond those for one", "more_threads", "threads", ours, kind="value"),
    ]
    return Case("memory", f"{PLUGINS} plugins at once", contenders, rows)


def _plugins_contender(lab: Lab, name: str) -> Callable[[], Values]:
    command = lab.host(name, GO, plugins=PLUGINS)

    def measure() -> Values:
        one, all_ = _between(lab, command, {"one": _host_of(1), "all": _host_of(PLUGINS)})
        return {
            **{f"each_{key}": (all_[key] - one[key]) * 1024 / (PLUGINS - 1) for key in FIELDS},
            "threads": all_["threads"],
            "more_threads": all_["threads"] - one["threads"],
        }

    return measure


def _between(
    lab: Lab, command: list[str], looks: dict[str, Callable[[subprocess.Popen[bytes]], Values]]
) -> list[Values]:
    """Look at a host whenever it has said the next word, for which it waits. Raises: Failed."""
    process = lab.spawn(command, stdin=subprocess.PIPE)
    found = []
    try:
        assert process.stdin is not None
        for word, look in looks.items():
            said = first_line(process).decode(errors="replace").strip()
            if said != word:
                raise Failed(f"{process.args!r} said {said!r} instead of {word!r}")
            found.append(look(process))
            if len(found) < len(looks):
                process.stdin.write(b"\n")
                process.stdin.flush()
    finally:
        end_group(process)
    return found


def _pair_of(process: subprocess.Popen[bytes]) -> Values:
    """The memory of a host and its plugin. Raises: Failed."""
    values = _both(process.pid)
    if values is None:
        raise Failed(f"{process.args!r} has no plugin")
    return values


def _host_of(plugins: int) -> Callable[[subprocess.Popen[bytes]], Values]:
    """Looks at the memory and the threads of a host with so many plugins. Raises: Failed."""

    def look(process: subprocess.Popen[bytes]) -> Values:
        running = len(children(process.pid))
        memory = _memory(process.pid)
        if memory is None or running != plugins:
            raise Failed(f"{process.args!r} has {running} plugins instead of {plugins}")
        return {**memory, "threads": float(len(os.listdir(f"/proc/{process.pid}/task")))}

    return look


def calling_memory(lab: Lab, host: str, plugin: str, seconds: float) -> Callable[[], Values]:
    """The memory of a host and its plugin while the host calls."""
    calls = FIRST_CALLS

    def measure() -> Values:
        nonlocal calls
        process = lab.spawn(lab.host(host, plugin, calls=calls))
        try:
            samples = _sample(process)
            assert process.stdout is not None
            output = process.stdout.read()
        finally:
            end_group(process)
        if process.returncode != 0 or not samples:
            raise Failed(f"{host} with {plugin}: exit status {process.returncode}")
        calls = int(json.loads(output)["calls"]["per_second"] * seconds)
        # The first half is start-up; the last sample, during the shutdown, is left out too.
        steady = samples[len(samples) // 2 : -1] or samples
        return {key: statistics.median(s[key] for s in steady) for key in samples[0]}

    return measure


def _sample(process: subprocess.Popen[bytes]) -> list[Values]:
    """Look at a host and its plugin again and again until the host ends."""
    samples: list[Values] = []
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            process.wait(SAMPLE_EVERY)
            return samples
        except subprocess.TimeoutExpired:
            values = _both(process.pid)
            if values is not None:
                samples.append(values)
    raise Failed(f"the host took more than {TIMEOUT} s")


def _both(pid: int) -> Values | None:
    """The memory of a host and its only plugin; None while there is no such pair."""
    plugins = children(pid)
    if len(plugins) != 1:
        return None
    host, plugin = _memory(pid), _memory(plugins[0])
    if host is None or plugin is None:
        return None
    return {
        **{f"host_{key}": value for key, value in host.items()},
        **{f"plugin_{key}": value for key, value in plugin.items()},
    }


def _memory(pid: int) -> Values | None:
    """MiB, from /proc; None for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = {
        key: re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
        for key, name in FIELDS.items()
    }
    if not all(found.values()):
        return None
    return {key: int(match[1]) / 1024 for key, match in found.items() if match}
