"""Callers at the same time: how many calls get through, and how many a plugin works on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contenders import SIZES, calling, cpus, pair
from lab import GO, GRPCIO, OPTIONAL, OURS, C, Lab
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 16
SIZE = 100
SLEEPERS = 8
SLEEP_MS = 10


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    busy = [_busy_case(lab, pinned, seconds) for pinned in ((False,) if quick else (False, True))]
    return [*busy, _sleeping_case(lab, seconds)]


def _busy_case(lab: Lab, pinned: bool, seconds: float) -> Case:
    optional = [] if pinned else [name for name in OPTIONAL if name not in lab.missing]
    pairs = [(name, name) for name in (OURS, GRPCIO, GO, C, *optional)]
    pairs += [(OURS, GO), (GO, OURS)]
    contenders = {
        pair(*names): calling(lab, *names, seconds, pinned=pinned, threads=THREADS, size=SIZE)
        for names in pairs
    }

    def row(ours: str, peer: str, target: float | None = None) -> Row:
        return Row("calls/s", "per_second", "/s", ours, peer, target=target, at_least=True)

    ours, go = pair(OURS, OURS), pair(GO, GO)
    rows = [
        row(ours, pair(GRPCIO, GRPCIO), 8),
        row(ours, go),
        row(ours, pair(C, C)),
        row(pair(OURS, GO), go),
        row(pair(GO, OURS), go),
        *(row(ours, pair(name, name)) for name in optional),
        Row("host CPU per call", "cpu_us", "us", ours, pair(GRPCIO, GRPCIO)),
        Row("host CPU per call", "cpu_us", "us", pair(OURS, GO), go),
    ]
    title = f"{THREADS} threads, {SIZES[SIZE]}, {cpus(pinned)}"
    return Case("concurrency", title, contenders, rows)


def _sleeping_case(lab: Lab, seconds: float) -> Case:
    names = [OURS, GRPCIO, *(name for name in OPTIONAL if name not in lab.missing)]
    each = max(int(seconds * 1000 / SLEEP_MS), 10)

    def contender(name: str) -> Callable[[], Values]:
        def measure() -> Values:
            calls = each * SLEEPERS
            got = lab.measure(name, name, calls=calls, threads=SLEEPERS, delay_ms=SLEEP_MS)
            return {"per_second": got["calls"]["per_second"]}

        return measure

    ideal = SLEEPERS * 1000 / SLEEP_MS
    rows = [
        Row(
            f"calls/s, of an ideal {ideal:.0f}",
            "per_second",
            "/s",
            pair(OURS, OURS),
            pair(name, name),
        )
        for name in names
        if name != OURS
    ]
    title = f"{SLEEPERS} callers of a handler that sleeps {SLEEP_MS} ms"
    return Case("concurrency", title, {pair(n, n): contender(n) for n in names}, rows)
