"""Unary calls, one after another: latency, and what a call costs the host in CPU time."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from contenders import SIZES, calling, cpus, pair
from lab import BARE, GO, GRPCIO, OPTIONAL, OURS, C, Lab
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL, LARGE = SIZES
HOST_CPU_US = 35

PAIRS = ((OURS, OURS), (GO, GO), (GRPCIO, GRPCIO), (C, C), (BARE, BARE))
MIXED = ((OURS, GO), (GO, OURS), (OURS, C), (C, OURS))


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    sizes = (SMALL,) if quick else (SMALL, LARGE)
    return [_case(lab, size, pinned, seconds) for pinned, size in product((False, True), sizes)]


def _case(lab: Lab, size: int, pinned: bool, seconds: float) -> Case:
    pairs = list(PAIRS)
    if size == SMALL:
        pairs += [*MIXED, *((name, name) for name in OPTIONAL if name not in lab.missing)]
    contenders = {
        pair(*names): calling(lab, *names, seconds, pinned=pinned, threads=1, size=size)
        for names in pairs
    }
    rows = _small_rows(contenders) if size == SMALL else _large_rows()
    return Case("unary", f"{SIZES[size]}, {cpus(pinned)}", contenders, rows)


def _latency(ours: tuple[str, str], peer: tuple[str, str], target: float | None = None) -> Row:
    return Row("latency", "us", "us", pair(*ours), pair(*peer), target=target)


def _small_rows(contenders: dict[str, Callable[[], Values]]) -> list[Row]:
    ours, go, grpcio, c, bare = PAIRS

    def cpu(ours: tuple[str, str], peer: tuple[str, str]) -> Row:
        return Row("host CPU per call", "cpu_us", "us", pair(*ours), pair(*peer))

    return [
        _latency(ours, grpcio, 0.22),
        _latency(ours, go, 0.75),
        _latency(ours, c, 1.3),
        _latency((OURS, C), c, 1.3),
        _latency((C, OURS), c, 1.3),
        _latency((OURS, GO), go),
        _latency((GO, OURS), go),
        Row("real messages to bytes", "us", "us", pair(*ours), pair(*bare), target=1.15),
        _latency(bare, c),
        *(_latency(ours, (n, n)) for n in OPTIONAL if pair(n, n) in contenders),
        Row("host CPU per call", "cpu_us", "us", pair(*ours), kind="value", target=HOST_CPU_US),
        cpu(ours, grpcio),
        cpu((OURS, GO), go),
        cpu((OURS, C), c),
    ]


def _large_rows() -> list[Row]:
    ours, go, grpcio, c, bare = PAIRS
    return [
        _latency(ours, grpcio, 0.30),
        _latency(ours, go, 1.0),
        _latency(ours, c, 1.3),
        _latency(bare, c),
    ]
