"""Unary calls: latency, throughput of eight callers, and what a call costs the host in CPU time."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from lab import BARE, GO, GRPCIO, OPTIONAL, OURS, C, Lab
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {100: "100 B", 65536: "64 KiB"}
CALLERS = 8
SLEEP_MS = 10
FIRST_CALLS = 400  # in the round that is thrown away
MIN_CALLS = 400
MAX_CALLS = 50_000

PAIRS = ((OURS, OURS), (GO, GO), (GRPCIO, GRPCIO), (C, C))
MIXED = ((OURS, GO), (GO, OURS), (OURS, C), (C, OURS), (BARE, BARE))


def pair(host: str, plugin: str) -> str:
    return f"{host} -> {plugin}"


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    found = [
        _case(lab, size, threads, pinned, seconds)
        for pinned, threads, size in product((False, True), (1, CALLERS), SIZES)
    ]
    return [case for case in found if case.title.startswith("100 B")] if quick else found


def concurrency_cases(lab: Lab, seconds: float) -> list[Case]:
    """Eight callers of a handler that sleeps: how many calls a plugin works on at a time."""
    names = [OURS, GRPCIO, *(name for name in OPTIONAL if name not in lab.missing)]
    each = max(int(seconds * 1000 / SLEEP_MS), 10)

    def contender(name: str) -> Callable[[], Values]:
        def measure() -> Values:
            calls = each * CALLERS
            got = lab.measure(name, name, calls=calls, threads=CALLERS, delay_ms=SLEEP_MS)
            return {"per_second": got["calls"]["per_second"]}

        return measure

    ours = pair(OURS, OURS)
    ideal = CALLERS * 1000 / SLEEP_MS
    rows = [
        Row(f"calls/s, of an ideal {ideal:.0f}", "per_second", "/s", ours, pair(name, name))
        for name in names
        if name != OURS
    ]
    title = f"{CALLERS} callers of a handler that sleeps {SLEEP_MS} ms"
    return [Case("concurrency", title, {pair(n, n): contender(n) for n in names}, rows)]


def _case(lab: Lab, size: int, threads: int, pinned: bool, seconds: float) -> Case:
    pairs = [*PAIRS, *MIXED]
    if not pinned and threads == 1:
        pairs += [(name, name) for name in OPTIONAL if name not in lab.missing]
    title = (
        f"{SIZES[size]}, {threads} thread{'s' if threads > 1 else ''}, "
        f"{'host and plugin on one CPU' if pinned else 'not pinned'}"
    )
    contenders = {
        pair(host, plugin): _contender(lab, host, plugin, size, threads, pinned, seconds)
        for host, plugin in pairs
    }
    return Case("unary", title, contenders, _rows(contenders, threads))


def _contender(
    lab: Lab, host: str, plugin: str, size: int, threads: int, pinned: bool, seconds: float
) -> Callable[[], Values]:
    calls = FIRST_CALLS

    def measure() -> Values:
        nonlocal calls
        got = lab.measure(host, plugin, pinned=pinned, calls=calls, size=size, threads=threads)
        got = got["calls"]
        # As many calls next time as fit into the time that one measurement is given.
        calls = min(max(int(got["per_second"] * seconds), MIN_CALLS), MAX_CALLS)
        return {
            "us": got["latency_us"]["median"] if threads == 1 else 1e6 / got["per_second"],
            "p99_us": got["latency_us"]["p99"],
            "cpu_us": got["host_cpu_us_per_call"],
        }

    return measure


def _rows(contenders: dict[str, Callable[[], Values]], threads: int) -> list[Row]:
    what = "latency" if threads == 1 else "time per call"
    ours, go, grpcio, c = (pair(*names) for names in PAIRS)

    def time(ours: str, peer: str, target: float | None = None) -> Row:
        return Row(what, "us", "us", ours, peer, target=target)

    rows = [
        time(ours, grpcio, 0.30),
        time(ours, go, 1.0),
        time(ours, c, 1.3),
        time(pair(OURS, C), c, 1.3),
        time(pair(C, OURS), c, 1.3),
        time(pair(OURS, GO), go),
        time(pair(GO, OURS), go),
        time(pair(BARE, BARE), c),
    ]
    rows += [time(ours, pair(n, n)) for n in OPTIONAL if pair(n, n) in contenders]
    rows += [
        Row("host CPU per call", "cpu_us", "us", mine, peer)
        for mine, peer in ((ours, grpcio), (pair(OURS, GO), go), (pair(OURS, C), c))
    ]
    return rows
