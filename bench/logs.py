"""What plugins say as fast as they can: structured lines for the log, and plain output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contenders import pair
from lab import GO, OURS, Lab
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable

# What the handler of our host makes of a record: see make_handler() in hosts/host_pygo.py.
STYLES = {
    "full": "time, name, fields",
    "default": "logging's own format",
    "records": "records only",
}


def cases(lab: Lab, lines: int) -> list[Case]:
    def contender(host: str, **options: int | str) -> Callable[[], Values]:
        def measure() -> Values:
            got = lab.measure(host, GO, False, loglines=lines, **options)["log"]
            return {"per_second": got["per_second"], "cpu_us": got["host_cpu_us_per_line"]}

        return measure

    theirs = pair(GO, GO)
    ours = {style: f"{pair(OURS, GO)}, {style}" for style in STYLES}
    rows = [
        Row(f"lines/s: {what}", "per_second", "/s", ours[style], theirs, "ratio", target, True)
        for (style, what), target in zip(STYLES.items(), (1.0, None, None))
    ]
    rows += [
        Row(f"host CPU per line: {what}", "cpu_us", "us", ours[style], theirs)
        for style, what in STYLES.items()
    ]
    contenders = {theirs: contender(GO)}
    contenders.update({ours[style]: contender(OURS, log_style=style) for style in STYLES})
    return [Case("logs", "mirrored log lines", contenders, rows), _output_case(lab)]


OUTPUT_MIB = 128


def _output_case(lab: Lab) -> Case:
    def contender(host: str, plugin: str) -> Callable[[], Values]:
        def measure() -> Values:
            got = lab.measure(host, plugin, False, stdio=OUTPUT_MIB)["stdio"]
            return {"mb_per_second": got["mb_per_second"]}

        return measure

    pairs = [(OURS, OURS), (OURS, GO), (GO, OURS), (GO, GO)]
    contenders = {pair(*names): contender(*names) for names in pairs}
    *ours, theirs = contenders
    rows = [
        Row("what a plugin prints", "mb_per_second", "MB/s", mine, theirs, "ratio", 1.0, True)
        for mine in ours
    ]
    return Case("logs", "stdio sync", contenders, rows)
