"""Messages on one call: from the plugin, to the plugin, and to and fro."""

from __future__ import annotations

from contenders import SIZES, cpus, pair, streaming
from lab import GO, GRPCIO, OURS, Lab
from rounds import Case, Row

KINDS = {"server": "server stream", "client": "client stream", "chat": "ping-pong on one call"}
SMALL, LARGE = SIZES
KINDS_AND_SIZES = (
    ("server", SMALL),
    ("server", LARGE),
    ("client", SMALL),
    ("client", LARGE),
    ("chat", SMALL),
)


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    return [
        _case(lab, kind, size, pinned, seconds)
        for pinned in ((False,) if quick else (False, True))
        for kind, size in KINDS_AND_SIZES
    ]


def _case(lab: Lab, kind: str, size: int, pinned: bool, seconds: float) -> Case:
    pairs = [(OURS, OURS), (GO, GO), (GRPCIO, GRPCIO), (OURS, GO), (GO, OURS)]
    contenders = {
        pair(*names): streaming(lab, *names, seconds, pinned=pinned, stream=kind, size=size)
        for names in pairs
    }
    title = f"{KINDS[kind]}, {SIZES[size]}, {cpus(pinned)}"
    ours, go, grpcio, to_go, from_go = contenders
    if kind == "chat":
        label, metric, unit, least = "round trip", "us", "us", False
    elif size == SMALL:
        label, metric, unit, least = "messages/s", "per_second", "/s", True
    else:
        label, metric, unit, least = "MB/s", "mb_per_second", "MB/s", True
    beat_grpcio = 5 if label == "messages/s" else None
    beat_go = None if label == "messages/s" else 1

    def row(ours: str, peer: str, target: float | None = None) -> Row:
        return Row(label, metric, unit, ours, peer, "ratio", target, least)

    rows = [
        row(ours, grpcio, beat_grpcio),
        row(ours, go, beat_go),
        row(to_go, go),
        row(from_go, go),
        Row("host CPU per message", "cpu_us", "us", ours, grpcio),
        Row("host CPU per message", "cpu_us", "us", to_go, go),
    ]
    return Case("streams", title, contenders, rows)
