"""Rounds: who is measured when, and what becomes of the numbers.

Every round measures every contender of every case once, and starts with another contender each
time, so that whatever else the machine does hits all alike. A ratio is made of two values of the
same round; the result is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

Values = dict[str, float]  # by metric


@dataclass(frozen=True)
class Row:
    """A line of the table: one contender's metric, alone or against another's."""

    label: str
    metric: str
    unit: str
    ours: str
    peer: str = ""
    # How the two make the result: "ratio" ours / peer, "difference" ours - peer, or "value" ours.
    kind: str = "ratio"
    target: float | None = None
    at_least: bool = False  # the target is a lower bound

    def result(self, ours: float, peer: float) -> float:
        if self.kind == "ratio":
            return ours / peer
        return ours - peer if self.kind == "difference" else ours

    def met(self, result: float) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return result >= self.target if self.at_least else result <= self.target


@dataclass
class Case:
    """Contenders that do the same thing, and the rows that compare them."""

    subject: str
    title: str
    contenders: dict[str, Callable[[], Values]]
    rows: list[Row]
    # By contender, then metric: one value for each round, None where it failed.
    measured: dict[str, list[Values | None]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str) -> Values | None:
        if name in self.failures:
            return None
        try:
            return self.contenders[name]()
        except Failed as error:
            self.failures[name] = str(error)
            print(f"\n{self.title}: {name} failed: {error}", file=sys.stderr)
            return None

    def values(self, name: str, metric: str) -> list[float | None]:
        return [
            None if values is None else values.get(metric) for values in self.measured.get(name, [])
        ]


def run(cases: list[Case], rounds: int, progress: Callable[[str], None]) -> None:
    """Measure, after one round that is thrown away: caches fill, and call counts adapt."""
    for number in range(rounds + 1):
        for case in cases:
            names = list(case.contenders)
            start = number % len(names)
            for name in names[start:] + names[:start]:
                progress(f"round {number} of {rounds}: {case.title}: {name}")
                values = case.measure(name)
                if number > 0:
                    case.measured.setdefault(name, []).append(values)


@dataclass(frozen=True)
class Outcome:
    """What the rounds say about one row."""

    case: Case
    row: Row
    ours: float | None
    peer: float | None
    result: float | None
    low: float | None
    high: float | None

    @property
    def met(self) -> bool | None:
        return None if self.result is None else self.row.met(self.result)


def evaluate(case: Case, row: Row) -> Outcome:
    ours = case.values(row.ours, row.metric)
    peer: list[float | None] = [0.0] * len(ours)
    if row.peer:
        peer = case.values(row.peer, row.metric)
    pairs = [(a, b) for a, b in zip(ours, peer) if a is not None and b is not None]
    if not pairs:
        alone = median(peer) if row.peer else None
        return Outcome(case, row, median(ours), alone, None, None, None)
    results = [row.result(a, b) for a, b in pairs]
    return Outcome(
        case,
        row,
        ours=median(ours),
        peer=median(peer) if row.peer else None,
        result=statistics.median(results),
        low=min(results),
        high=max(results),
    )


def median(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None
