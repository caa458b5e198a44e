"""asyncio: unary calls on an event loop, one after another and many at once; and streams."""

from __future__ import annotations

from contenders import SIZES, calling, cpus, pair, streaming
from lab import GO, GRPC_AIO, OURS_AIO, Lab
from rounds import Case, Row
from streams import KINDS

SIZE = 100
TASKS = 100


def cases(lab: Lab, seconds: float, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    unary = [
        _case(lab, tasks, pinned, seconds)
        for pinned in ((False,) if quick else (False, True))
        for tasks in (1, TASKS)
    ]
    return [*unary, *(_stream_case(lab, kind, seconds) for kind in KINDS)]


def _case(lab: Lab, tasks: int, pinned: bool, seconds: float) -> Case:
    ours, theirs = (OURS_AIO, OURS_AIO), (GRPC_AIO, GRPC_AIO)
    hosts = (OURS_AIO, GO), (GRPC_AIO, GO)
    plugins = (GO, OURS_AIO), (GO, GRPC_AIO)
    contenders = {
        pair(*names): calling(lab, *names, seconds, pinned=pinned, threads=tasks, size=SIZE)
        for names in (ours, theirs, *hosts, *plugins)
    }

    def row(what: str, ours: tuple[str, str], peer: tuple[str, str], target: float | None) -> Row:
        metric = "us" if tasks == 1 else "call_us"
        return Row(what, metric, "us", pair(*ours), pair(*peer), target=target)

    what = "latency" if tasks == 1 else "time per call"
    rows = [
        row(what, ours, theirs, 0.35 if tasks == 1 else None),
        row(f"{what}: the host alone", *hosts, None),
        row(f"{what}: the plugin alone", *plugins, None),
        Row("host CPU per call", "cpu_us", "us", pair(*ours), pair(*theirs)),
    ]
    title = f"{tasks} task{'s' if tasks > 1 else ''}, {SIZES[SIZE]}, {cpus(pinned)}"
    return Case("asyncio", title, contenders, rows)


def _stream_case(lab: Lab, kind: str, seconds: float) -> Case:
    contenders = {
        pair(name, name): streaming(lab, name, name, seconds, pinned=False, stream=kind, size=SIZE)
        for name in (OURS_AIO, GRPC_AIO)
    }
    ours, theirs = contenders
    if kind == "chat":
        row = Row("round trip", "us", "us", ours, theirs)
    else:
        row = Row("messages/s", "per_second", "/s", ours, theirs, at_least=True)
    rows = [row, Row("host CPU per message", "cpu_us", "us", ours, theirs)]
    return Case("asyncio", f"{KINDS[kind]}, {SIZES[SIZE]}, {cpus(False)}", contenders, rows)
