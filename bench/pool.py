"""Pools: what giving a call to a process costs, and what several processes are good for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from lab import BENCH, OURS, Lab
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    program = [sys.executable, str(BENCH / "hosts" / "host_pool.py")]
    plugin = [sys.executable, str(BENCH / "plugins" / "computing.py")]

    def contender(mode: str) -> Callable[[], Values]:
        def measure() -> Values:
            command = [*program, mode, str(seconds), "--", *plugin]
            found: Values = json.loads(lab.output(command))
            return found

        return measure

    dispatch = [
        Row("a pool, beyond a direct call", "pool_us", "us", OURS, kind="value", target=3),
        Row("a supervisor, beyond it", "supervisor_us", "us", OURS, kind="value", target=3),
    ]
    speed = [
        Row("4 processes, against one", "ratio", "x", OURS, kind="value", target=1.8, at_least=True)
    ]
    return [
        Case("pool", "unary calls, in turn", {OURS: contender("dispatch")}, dispatch),
        Case("pool", "a handler that computes", {OURS: contender("compute")}, speed),
    ]
