"""Resident memory of host and plugin while they are at work."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import BARE, GO, GRPCIO, OPTIONAL, OURS, TIMEOUT, Failed, Lab, children, end_group
from rounds import Case, Row, Values
from unary import pair

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_EVERY = 0.02  # seconds
FIRST_CALLS = 1000
FIELDS = {"rss": "VmRSS", "anonymous": "RssAnon"}


def cases(lab: Lab, seconds: float) -> list[Case]:
    pairs = [(OURS, OURS), (BARE, BARE), (GO, GO), (GRPCIO, GRPCIO)]
    pairs += [(name, name) for name in OPTIONAL if name not in lab.missing]
    contenders = {pair(*names): _contender(lab, *names, seconds) for names in pairs}
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
    return [Case("memory", "while calling", contenders, rows)]


def _contender(lab: Lab, host: str, plugin: str, seconds: float) -> Callable[[], Values]:
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
        # The first half is start-up; the end, where somebody is leaving, is not looked at either.
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
            plugins = children(process.pid)
            if len(plugins) == 1:
                host, plugin = _memory(process.pid), _memory(plugins[0])
                if host and plugin:
                    samples.append(
                        {
                            **{f"host_{key}": value for key, value in host.items()},
                            **{f"plugin_{key}": value for key, value in plugin.items()},
                        }
                    )
    raise Failed(f"the host took more than {TIMEOUT} s")


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
