"""Charts of benchmarks show what was measured, and where."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

from snippets import ROOT

sys.path.append(str(ROOT / "bench"))

import plot

MACHINE = {
    "date": "2026-01-02T03:04:05Z",
    "commit": "abc1234",
    "system": "Linux-6.1.0-13-x86_64-with-glibc2.36",
    "cpu": "A <fast> CPU",
    "cpus": 2,
    "load": [0.5, 0.4, 0.3],
    "python": "3.11.2",
    "go": "go1.26.0",
    "grpc_core": "29.0.0",
    "grpcio": "1.62.0",
}


def results(rounds):
    case = {"subject": "memory", "title": "while calling", "rounds": rounds}
    return {"machine": MACHINE, "options": {"rounds": 2}, "cases": [case]}


def test_a_chart_shows_medians_and_the_machine():
    ours = [{"host_rss": 10.0, "plugin_rss": 6.0}, {"host_rss": 12.0, "plugin_rss": 8.0}]
    theirs = [{"host_rss": 20.0, "plugin_rss": 16.0}]
    drawn = plot.charts(results({"pygo -> pygo": ours, "go -> go": theirs}))
    assert list(drawn) == ["memory.svg"]
    texts = [element.text for element in ElementTree.fromstring(drawn["memory.svg"]).iter()]
    assert texts[texts.index("pygo-plugin") + 1] == "18.0"
    assert texts[texts.index("go-plugin, Go to Go") + 1] == "36.0"
    assert "A <fast> CPU, 2 CPUs, load 0.5 at the start, Linux 6.1.0" in texts
    assert "2026-01-02, commit abc1234, median and range of 2 rounds" in texts


def test_a_contender_that_failed_is_left_out():
    assert plot.charts(results({"pygo -> pygo": [], "go -> go": []})) == {}


def test_published_charts_are_drawn_from_what_is_published():
    stored = {path.name: path.read_text() for path in plot.CHARTS.glob("*.svg")}
    assert stored == plot.charts(json.loads(plot.PUBLISHED.read_text())), "scripts/bench --plot"
