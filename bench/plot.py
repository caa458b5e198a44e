"""Draws charts of a benchmark's results: scripts/bench --plot [FILE].

Writes docs/assets/bench/*.svg, which docs/benchmarks.md shows, and what they are drawn from to
bench/published.json. Bars are medians of the rounds, lines reach from the lowest to the highest.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
PUBLISHED = BENCH / "published.json"
CHARTS = BENCH.parent / "docs" / "assets" / "bench"

Json = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    unit: str
    subject: str
    case: str
    metrics: tuple[str, ...]  # added up
    contenders: tuple[str, ...]
    higher_is_better: bool = False


CALLS = ("bare -> bare", "pygo -> pygo", "go -> go", "grpcio -> grpcio")
PEERS = ("python-plugin -> python-plugin", "pyvider-rpcplugin -> pyvider-rpcplugin")
ALL = (
    Chart(
        "unary",
        "A call of 100 B over gRPC, on one CPU",
        "us",
        "unary",
        "100 B, pinned to one CPU",
        ("us",),
        (*CALLS, *PEERS, "c -> c"),
    ),
    Chart(
        "netrpc",
        "A call of 100 B over net/rpc, on one CPU",
        "us",
        "netrpc",
        "unary over net/rpc, 100 B, pinned to one CPU",
        ("us",),
        (
            "netrpc -> netrpc",
            "netrpc -> go.netrpc",
            "go.netrpc -> netrpc",
            "go.netrpc -> go.netrpc",
        ),
    ),
    Chart(
        "handshake",
        "A plugin's start, from exec to its handshake",
        "ms",
        "start",
        "exec to handshake",
        ("ms",),
        ("python -c pass", "bare", "pygo", "grpcio", "go", "python-plugin", "pyvider-rpcplugin"),
    ),
    Chart(
        "launch",
        "From the launch of a plugin to its first reply",
        "ms",
        "start",
        "launch to first reply, and kill",
        ("first_reply_ms",),
        ("pygo -> bare", "pygo -> pygo", "pygo -> go", "go -> go", "grpcio -> grpcio", *PEERS),
    ),
    Chart(
        "stream",
        "Messages of 100 B that a plugin streams to its host",
        "messages/s",
        "streams",
        "server stream, 100 B, unpinned",
        ("per_second",),
        ("pygo -> pygo", "pygo -> go", "go -> pygo", "go -> go", "grpcio -> grpcio"),
        higher_is_better=True,
    ),
    Chart(
        "memory",
        "Resident memory of host and plugin together",
        "MiB",
        "memory",
        "while calling",
        ("host_rss", "plugin_rss"),
        (*CALLS, *PEERS),
    ),
)

# What the contenders of bench/README.md are called in charts. Ours are drawn in another colour.
OURS = {
    "bare": "pygo-plugin, bytes instead of stubs",
    "bare -> bare": "pygo-plugin, bytes instead of messages",
    "pygo": "pygo-plugin, generated stubs",
    "pygo -> pygo": "pygo-plugin",
    "pygo -> bare": "pygo-plugin, plugin without stubs",
    "pygo -> go": "pygo-plugin's host, plugin in Go",
    "go -> pygo": "host in Go, pygo-plugin's plugin",
    "netrpc -> netrpc": "pygo-plugin",
    "netrpc -> go.netrpc": "pygo-plugin's host, plugin in Go",
    "go.netrpc -> netrpc": "host in Go, pygo-plugin's plugin",
}
PEER_NAMES = {
    "c -> c": "gRPC's C core alone",
    "go": "go-plugin, in Go",
    "go -> go": "go-plugin, Go to Go",
    "go.netrpc -> go.netrpc": "go-plugin, Go to Go",
    "grpcio": "grpcio by hand",
    "grpcio -> grpcio": "grpcio by hand",
    "python-plugin -> python-plugin": "python-plugin",
    "pyvider-rpcplugin -> pyvider-rpcplugin": "pyvider-rpcplugin",
}

WIDTH = 480
MARGIN = 16
ROW = 42
BAR = 12
LINE = 16

STYLE = """
svg { --ground: #ffffff; --ink: #1f2937; --faint: #64748b; --ours: #4338ca; --peer: #a3aec2; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #161b26; --ink: #e5e7eb; --faint: #94a3b8; --ours: #a5b4fc; --peer: #55617a; }
}
.ground { fill: var(--ground); }
.ours { fill: var(--ours); }
.peer { fill: var(--peer); }
.range { stroke: var(--ink); stroke-width: 1.2; }
text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.title { font-size: 15px; font-weight: 600; }
.value { text-anchor: end; }
.faint { fill: var(--faint); font-size: 11px; }
"""


@dataclass(frozen=True)
class Bar:
    contender: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def find_case(results: Json, chart: Chart) -> Json | None:
    for case in results["cases"]:
        if (case["subject"], case["title"]) == (chart.subject, chart.case):
            return dict(case)
    return None


def bars(case: Json, chart: Chart) -> list[Bar]:
    """What the chart shows of those contenders that took part."""
    found = []
    for contender in chart.contenders:
        rounds = case["rounds"].get(contender) or []
        values = [sum(values[metric] for metric in chart.metrics) for values in rounds if values]
        if values:
            found.append(Bar(contender, values))
    return found


def draw(chart: Chart, found: list[Bar], machine: Json, rounds: int) -> str:
    most = max(max(bar.values) for bar in found)
    scale = (WIDTH - 2 * MARGIN) / most
    y = MARGIN + LINE
    better = "higher is better" if chart.higher_is_better else "lower is better"
    parts = [
        f'<text class="title" x="{MARGIN}" y="{y}">{escape(chart.title)}</text>',
        f'<text class="faint" x="{MARGIN}" y="{y + LINE}">{chart.unit}, {better}</text>',
    ]
    y += LINE + 8
    for bar in found:
        y += ROW
        kind = "ours" if bar.contender in OURS else "peer"
        name = OURS.get(bar.contender) or PEER_NAMES.get(bar.contender, bar.contender)
        low, high = (MARGIN + value * scale for value in (min(bar.values), max(bar.values)))
        length, top = bar.median * scale, y - BAR
        value = number(bar.median)
        above = f'y="{top - 6}"'
        parts += [
            f'<text x="{MARGIN}" {above}>{escape(name)}</text>',
            f'<text class="value" x="{WIDTH - MARGIN}" {above}>{value}</text>',
            f'<path class="{kind}" d="M{MARGIN} {top}h{length:.1f}v{BAR}H{MARGIN}z"/>',
            f'<path class="range" d="M{low:.1f} {top + BAR // 2}H{high:.1f}"/>',
        ]
    y += 10
    for line in machine_lines(machine, rounds):
        y += LINE
        parts.append(f'<text class="faint" x="{MARGIN}" y="{y}">{escape(line)}</text>')
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}"><title>{escape(chart.title)}</title>'
        f'<style>{STYLE}</style><rect class="ground" width="100%" height="100%" rx="8"/>'
        f"{''.join(parts)}</svg>\n"
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def machine_lines(machine: Json, rounds: int) -> tuple[str, ...]:
    release = re.match(r"[A-Za-z]+-[0-9.]+", machine["system"])
    system = release[0].replace("-", " ") if release else machine["system"]
    versions = (machine["go"], f"gRPC core {machine['grpc_core']}", f"grpcio {machine['grpcio']}")
    date, commit, load = machine["date"][:10], machine["commit"], machine["load"][0]
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, load {load:.1f} at the start, {system}",
        f"Python {machine['python']}, {', '.join(versions)}",
        f"{date}, commit {commit}, median and range of {rounds} rounds",
    )


def charts(results: Json) -> dict[str, str]:
    """The drawings by the names of their files, of those charts whose cases have been measured."""
    drawn = {}
    for chart in ALL:
        case = find_case(results, chart)
        found = bars(case, chart) if case is not None else []
        if found:
            text = draw(chart, found, results["machine"], results["options"]["rounds"])
            drawn[f"{chart.name}.svg"] = text
    return drawn


def main(arguments: list[str]) -> int:
    source = Path(arguments[0]) if arguments else BENCH / "results" / "latest.json"
    try:
        results = json.loads(source.read_text())
    except OSError as error:
        print(f"no results to draw: {error}", file=sys.stderr)
        return 1
    missing = [chart.name for chart in ALL if find_case(results, chart) is None]
    if missing:
        print(f"not measured: {', '.join(missing)}; see scripts/bench --help", file=sys.stderr)
        return 1
    cases = [find_case(results, chart) for chart in ALL]
    published = {key: results[key] for key in ("machine", "options")} | {"cases": cases}
    PUBLISHED.write_text(json.dumps(published, indent=1) + "\n")
    CHARTS.mkdir(parents=True, exist_ok=True)
    for name, text in charts(published).items():
        (CHARTS / name).write_text(text)
        print((CHARTS / name).relative_to(BENCH.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
