"""Measures everything, round by round; prints a table, writes JSON. Run it with scripts/bench."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import broker
import concurrency
import costs
import logs
import loops
import memory
import netrpc
import pool
import report
import rounds
import start
import streams
import unary
from lab import BENCH, Failed, Lab
from rounds import Case


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # of one measurement of calls
    launches: int  # by one contender in one round
    log_lines: int


FULL = Effort(rounds=5, seconds=0.3, launches=5, log_lines=50_000)
QUICK = Effort(rounds=2, seconds=0.15, launches=3, log_lines=20_000)
SUBJECTS = (
    "unary",
    "streams",
    "asyncio",
    "concurrency",
    "broker",
    "start",
    "logs",
    "memory",
    "netrpc",
    "pool",
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds; less of each")
    parser.add_argument(
        "--profile", action="store_true", help="show what a unary call consists of, nothing else"
    )
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, metavar="NAME", help="subjects")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds to take medians of")
    parser.add_argument(
        "--output", type=Path, default=BENCH / "results" / "latest.json", help="where JSON goes"
    )
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    return arguments


def make_cases(lab: Lab, effort: Effort, subjects: tuple[str, ...], quick: bool) -> list[Case]:
    makers = {
        "unary": lambda: unary.cases(lab, effort.seconds, quick),
        "streams": lambda: streams.cases(lab, effort.seconds, quick),
        "asyncio": lambda: loops.cases(lab, effort.seconds, quick),
        "concurrency": lambda: concurrency.cases(lab, effort.seconds, quick),
        "broker": lambda: broker.cases(lab, effort.seconds, quick),
        "start": lambda: start.cases(lab, effort.launches),
        "logs": lambda: logs.cases(lab, effort.log_lines),
        "memory": lambda: memory.cases(lab, effort.seconds),
        "netrpc": lambda: netrpc.cases(lab, effort.seconds, effort.launches, quick),
        "pool": lambda: pool.cases(lab, effort.seconds, quick),
    }
    return [case for subject in subjects for case in makers[subject]()]


def profile() -> int:
    lab = Lab()
    try:
        costs.show(lab)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        lab.close()
    return 0


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> int:
    arguments = parse_arguments()
    if arguments.profile:
        return profile()
    effort = QUICK if arguments.quick else FULL
    count = arguments.rounds or effort.rounds
    subjects = tuple(name for name in SUBJECTS if name in (arguments.only or SUBJECTS))
    facts = report.machine()
    began = time.monotonic()
    lab = Lab()
    try:
        cases = make_cases(lab, effort, subjects, arguments.quick)
        rounds.run(cases, count, show_progress)
    finally:
        lab.close()
        show_progress("")
    facts["seconds"] = round(time.monotonic() - began)

    found = report.outcomes(cases)
    print(", ".join(f"{key} {value}" for key, value in facts.items() if value))
    for name, why in lab.missing.items():
        print(f"{name} does not take part: {why}")
    print(f"\n{report.table(found)}\n\n{report.summary(found)}")
    options = {"rounds": count, "quick": arguments.quick, "subjects": subjects}
    report.write(arguments.output, cases, found, facts, lab, options)
    print(f"all numbers: {os.path.relpath(arguments.output)}")
    return 1 if any(case.failures for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main())
