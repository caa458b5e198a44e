"""The broker: what a call back costs, and what it costs to have everything over one connection."""

from __future__ import annotations

from itertools import product

from contenders import SIZES, calling, cpus, pair, streaming
from lab import GO, OURS, Lab
from rounds import Case, Row

SMALL, LARGE = SIZES
FEWEST = 100  # calls back in one measurement
CALL_BACK = 0.8  # of Go's time
MULTIPLEXED = 1.0  # of Go's time, and of Go's rate
ONE_SOCKET = "multiplexed"

PAIRS = ((OURS, OURS), (GO, GO), (OURS, GO), (GO, OURS))


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    pinnings = (False,) if quick else (False, True)
    return [
        *(_call_back_case(lab, seconds, *cell) for cell in product((False, True), repeat=2)),
        *(_unary_case(lab, seconds, pinned) for pinned in pinnings),
        *(_stream_case(lab, seconds, pinned) for pinned in pinnings),
    ]


def _call_back_case(lab: Lab, seconds: float, multiplex: bool, auto_mtls: bool) -> Case:
    """The host serves under a new id, calls the plugin, which dials and calls it back."""
    contenders = {
        pair(*names): calling(
            lab,
            *names,
            seconds,
            pinned=False,
            threads=1,
            size=SMALL,
            fewest=FEWEST,
            call_back=True,
            multiplex=multiplex,
            auto_mtls=auto_mtls,
        )
        for names in PAIRS
    }
    ours, go, to_go, from_go = contenders

    def row(ours: str, target: float | None = None) -> Row:
        return Row("round trip", "us", "us", ours, go, target=target)

    rows = [
        row(ours, CALL_BACK),
        row(to_go),
        row(from_go),
        Row("host CPU per round trip", "cpu_us", "us", ours, go),
    ]
    sockets = ONE_SOCKET if multiplex else "separate sockets"
    security = "AutoMTLS" if auto_mtls else "plain"
    return Case("broker", f"call back, {sockets}, {security}", contenders, rows)


def _unary_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    pairs = {f"{pair(*names)}, {ONE_SOCKET}": (names, True) for names in PAIRS}
    pairs[pair(OURS, OURS)] = ((OURS, OURS), False)
    contenders = {
        name: calling(
            lab, *names, seconds, pinned=pinned, threads=1, size=SMALL, multiplex=multiplex
        )
        for name, (names, multiplex) in pairs.items()
    }
    ours, go, to_go, from_go, plain = contenders

    def row(ours: str, peer: str, target: float | None = None) -> Row:
        return Row("latency", "us", "us", ours, peer, target=target)

    rows = [row(ours, go, MULTIPLEXED), row(to_go, go), row(from_go, go), row(ours, plain)]
    title = f"unary over one connection, {SIZES[SMALL]}, {cpus(pinned)}"
    return Case("broker", title, contenders, rows)


def _stream_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    pairs = {f"{pair(*names)}, {ONE_SOCKET}": (names, True) for names in PAIRS}
    pairs[pair(OURS, OURS)] = ((OURS, OURS), False)
    contenders = {
        name: streaming(
            lab, *names, seconds, pinned=pinned, stream="server", size=LARGE, multiplex=multiplex
        )
        for name, (names, multiplex) in pairs.items()
    }
    ours, go, to_go, from_go, plain = contenders

    def row(ours: str, peer: str, target: float | None = None) -> Row:
        return Row("MB/s", "mb_per_second", "MB/s", ours, peer, target=target, at_least=True)

    rows = [row(ours, go, MULTIPLEXED), row(to_go, go), row(from_go, go), row(ours, plain)]
    title = f"server stream over one connection, {SIZES[LARGE]}, {cpus(pinned)}"
    return Case("broker", title, contenders, rows)
