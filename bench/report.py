"""The table and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lab import ROOT, Json
from rounds import evaluate

if TYPE_CHECKING:
    from lab import Lab
    from rounds import Case, Outcome

HEADINGS = ("what", "ours", "against", "ours", "peer", "result", "rounds", "target", "")
RIGHT = {3, 4, 5, 6, 7}  # columns of numbers


def outcomes(cases: list[Case]) -> list[Outcome]:
    return [evaluate(case, row) for case in cases for row in case.rows]


def table(found: list[Outcome]) -> str:
    """All rows, with the title of each case above its own."""
    lines = [(outcome.case, _cells(outcome)) for outcome in found]
    every = [HEADINGS, *(cells for _, cells in lines)]
    widths = [max(len(cells[i]) for cells in every) for i in range(len(HEADINGS))]

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.rjust(width) if i in RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        return "  ".join(padded).rstrip()

    out = [line(HEADINGS)]
    last = None
    for case, cells in lines:
        if case is not last:
            out += ["", f"{case.subject}: {case.title}"]
            last = case
        out.append(line(cells))
    return "\n".join(out)


def summary(found: list[Outcome]) -> str:
    verdicts = [outcome.met for outcome in found if outcome.row.target is not None]
    met, missed, unknown = (verdicts.count(verdict) for verdict in (True, False, None))
    return f"targets: {met} met, {missed} missed, {unknown} not measured"


def write(
    path: Path, cases: list[Case], found: list[Outcome], facts: Json, lab: Lab, options: Json
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": facts,
        "options": options,
        "not_installed": lab.missing,
        "rows": [_row(outcome) for outcome in found],
        "cases": [
            {
                "subject": case.subject,
                "title": case.title,
                "rounds": case.measured,
                "failures": case.failures,
            }
            for case in cases
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> Json:
    """What the numbers depend on."""
    cpus = os.sched_getaffinity(0)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": len(cpus),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "go": _output("go", "env", "GOVERSION"),
        "grpc_core": _grpc_core(),
        **{name: _version(name) for name in ("pygo-plugin", "grpcio", "protobuf")},
    }


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row = outcome.row
    suffix = f" {row.unit}" if row.kind != "ratio" else ""
    target = ""
    if row.target is not None:
        target = f"{'>=' if row.at_least else '<='} {row.target:.4g}{suffix}"
    return (
        row.label,
        row.ours,
        row.peer,
        _number(outcome.ours, row.unit),
        _number(outcome.peer, row.unit),
        "failed" if outcome.result is None else f"{outcome.result:.2f}{suffix}",
        "" if outcome.low is None else f"{outcome.low:.2f}-{outcome.high:.2f}",
        target,
        {True: "met", False: "MISSED", None: ""}[outcome.met],
    )


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 0 if value >= 1000 else 1
    return f"{value:,.{digits}f} {unit}"


def _row(outcome: Outcome) -> Json:
    row = outcome.row
    return {
        "subject": outcome.case.subject,
        "case": outcome.case.title,
        "what": row.label,
        "metric": row.metric,
        "unit": row.unit,
        "ours": row.ours,
        "peer": row.peer,
        "kind": row.kind,
        "our_median": outcome.ours,
        "peer_median": outcome.peer,
        "result": outcome.result,
        "lowest": outcome.low,
        "highest": outcome.high,
        "target": row.target,
        "bound": None if row.target is None else "lower" if row.at_least else "upper",
        "met": outcome.met,
    }


def _grpc_core() -> str:
    """The release that is linked, or the core's own version of the system's library."""
    chosen = _output(sys.executable, str(ROOT / "scripts" / "core"), "--chosen")
    if chosen == "system":
        return _output("pkg-config", "--modversion", "grpc")
    return f"{Path(chosen).name.partition('-')[0]}, static"


def _output(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return platform.machine()
    return found[1] if found else platform.machine()
