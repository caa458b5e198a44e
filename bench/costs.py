"""Where the time of a unary call goes, as callgrind counts it. Run it with scripts/bench --profile.

Host and plugin are profiled one at a time, each against the C core alone on the other side. Two
runs of each differ in nothing but the number of calls; so what remains of their difference is what
calls cost, without the start and the end of the process.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lab import OURS, TIMEOUT, C, Failed, Lab, end_group, first_line, handshake_target

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = (1000, 3000)
TIMED_CALLS = 20_000
SIZE = 100
FUNCTIONS = 6  # of each library
LIBRARIES = 8
LEAST = 0.01  # of all instructions, for a library to be shown
WIDTH = 78  # of a function's name

# What the libraries are called here, by how their files' names begin.
KNOWN = {
    "_core.": "pygo_plugin._core (ours)",
    "libabsl": "abseil",
    "libgrpc": "gRPC's C core",
    "libgpr": "gRPC's C core",
    "libpython": "Python",
    "python": "Python",
    "_message": "protobuf",
    "libc.": "libc",
    "libc-": "libc",
    "libpthread": "libc",
    "ld-linux": "libc",
    "libstdc": "libstdc++",
}

# Wrappers that valgrind takes for system calls, and that are none without it.
VDSO = ("clock_gettime", "sched_getcpu", "gettimeofday")

Function = tuple[str, str]  # library, name
Costs = dict[str, Counter[Function]]  # by event: instructions are "Ir", system calls "sysCount"


def show(lab: Lab) -> None:
    """Profile both sides and print what was found. Raises: Failed."""
    print(_timing(lab), end="\n\n", flush=True)  # and the first run, which has files compiled
    for title, run, functions in (
        ("our host", _profile_host, FUNCTIONS),
        ("our plugin", _profile_plugin, FUNCTIONS),
        ("a host of the C core alone", _profile_c_host, 0),
    ):
        few, many = (run(lab, calls) for calls in CALLS)
        print("\n".join(_report(title, few, many, functions)), end="\n\n", flush=True)


def _profile_host(lab: Lab, calls: int) -> Costs:
    out = _out_file(lab)
    lab.output([*_callgrind(out), *lab.host(OURS, C, calls=calls, size=SIZE, threads=1)])
    return read(out)


def _profile_plugin(lab: Lab, calls: int) -> Costs:
    out = _out_file(lab)
    plugin = lab.spawn([*_callgrind(out), *lab.plugin(OURS)])
    try:
        target = handshake_target(first_line(plugin))
        lab.output(_c_host(lab, target, calls))
        lab.output([lab.pair, "shutdown", target])
        plugin.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failed(f"the plugin did not end within {TIMEOUT} s") from None
    finally:
        end_group(plugin)
    return read(out)


def _profile_c_host(lab: Lab, calls: int) -> Costs:
    out = _out_file(lab)
    plugin = lab.launch(C)
    try:
        lab.output([*_callgrind(out), *_c_host(lab, plugin.target, calls)])
    finally:
        lab.end(plugin)
    return read(out)


def _c_host(lab: Lab, target: str, calls: int) -> list[str]:
    return [lab.pair, "client", target, "/probe.Probe/Echo", str(SIZE), str(calls), "1"]


def _out_file(lab: Lab) -> Path:
    out = Path(lab.scratch) / "callgrind.out"
    out.unlink(missing_ok=True)
    return out


def _callgrind(out: Path) -> list[str]:
    # Fair scheduling: valgrind runs one thread at a time, and both sides hand over to others.
    return [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        "--collect-systime=yes",
        "--fair-sched=try",
    ]


# ---- callgrind's files ----


def read(out: Path) -> Costs:
    """What every function did by itself, callees not included. Raises: Failed."""
    try:
        lines = iter(out.read_text(errors="replace").splitlines())
    except OSError:
        raise Failed(f"valgrind left no {out.name}") from None
    return _parse(lines)


def _parse(lines: Iterator[str]) -> Costs:
    """The format is in callgrind's manual: `fn=(3) name` the first time, `fn=(3)` from then on."""
    names: dict[tuple[str, str], str] = {}
    events: list[str] = []
    costs: Costs = {}
    library = function = ""
    for line in lines:
        if line.startswith("events: "):
            events = line.split()[1:]
            costs = {event: Counter() for event in events}
        elif line.startswith("calls="):
            next(lines)  # what the callees cost
        elif match := re.match(r"c?(ob|fn)=\((\d+)\)(?: (.*))?$", line):
            kind, number, name = match.groups()
            if name is not None:
                names[kind, number] = name
            if not line.startswith("c"):
                known = names[kind, number]
                library, function = (known, function) if kind == "ob" else (library, known)
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            for event, cost in zip(events, line.split()[1:]):
                costs[event][library, function] += int(cost)
    return costs


# ---- The tables ----


def _report(title: str, few: Costs, many: Costs, functions: int) -> list[str]:
    """Libraries, with as many `functions` of each. All numbers are for one call."""
    calls = CALLS[1] - CALLS[0]
    instructions = _per_call(few, many, "Ir", calls)
    system = _per_call(few, many, "sysCount", calls)
    system = Counter({f: n for f, n in system.items() if not f[1].startswith(VDSO)})
    whole = sum(instructions.values())
    lines = [
        f"{title}: {whole:,.0f} instructions, {sum(system.values()):.1f} system calls",
        *(f"{n:18.1f}  {_short(f[1])}" for f, n in system.most_common(FUNCTIONS) if n > 0.05),
    ]
    for library, share in _by_library(instructions).most_common(LIBRARIES):
        if share < LEAST * whole:
            break
        lines.append(f"{share:12,.0f}  {share / whole:4.0%}  {library}")
        own = Counter({f: n for f, n in instructions.items() if _library(f[0]) == library})
        lines += [f"{n:18,.0f}  {_short(f[1])}" for f, n in own.most_common(functions)]
    return lines


def _per_call(few: Costs, many: Costs, event: str, calls: int) -> Counter[Function]:
    less, more = few.get(event, Counter()), many.get(event, Counter())
    return Counter({key: (more[key] - less[key]) / calls for key in more.keys() | less.keys()})


def _by_library(instructions: Counter[Function]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (path, _), count in instructions.items():
        found[_library(path)] += count
    return found


def _library(path: str) -> str:
    name = os.path.basename(path)
    for prefix, known in KNOWN.items():
        if name.startswith(prefix):
            return known
    return name or "unknown"


def _short(name: str) -> str:
    plain = re.sub(r"(@@?GLIBC.*|'\d+)$", "", name)  # symbol version, depth of a recursion
    return plain if len(plain) <= WIDTH else plain[: WIDTH - 3] + "..."


def _timing(lab: Lab) -> str:
    """What is invisible to callgrind: the system's share, without a profiler."""
    got = lab.measure(OURS, C, pinned=False, calls=TIMED_CALLS, size=SIZE, threads=1)["calls"]
    cpu, system = got["host_cpu_us_per_call"], got["host_system_us_per_call"]
    return (
        f"without a profiler: {got['latency_us']['median']:.1f} us, of it CPU time of the host "
        f"{cpu:.1f} us: {cpu - system:.1f} us in the process, {system:.1f} us in the system"
    )
