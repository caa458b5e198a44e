"""net/rpc: calls, structs, calls back, starts and memory, against Go's; and gob by itself."""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING

from contenders import SIZES, calling, cpus, pair
from lab import BENCH, BUILD, GO_RPC, OURS, RPC, Lab
from memory import calling_memory
from rounds import Case, Row, Values
from start import PASS, first_line_time, launching

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = min(SIZES)
THREADS = 16
FEWEST_CALLS_BACK = 100
HANDSHAKE_MS = 5  # beyond the interpreter
MEMORY_MIB = 14
OF_GRPC = 0.7  # our call of net/rpc, of our call of gRPC
PURE = "pure Python"

PAIRS = ((RPC, RPC), (GO_RPC, GO_RPC), (RPC, GO_RPC), (GO_RPC, RPC))
OURS_BOTH, GO_BOTH, TO_GO, FROM_GO = (pair(*names) for names in PAIRS)


def cases(lab: Lab, seconds: float, launches: int, quick: bool) -> list[Case]:
    """`seconds` is how long one measurement is meant to take."""
    both = (False, True)
    unpinned = (False,) if quick else both
    return [
        *(_unary_case(lab, seconds, pinned) for pinned in both),
        *(_threads_case(lab, seconds, pinned) for pinned in unpinned),
        *(_struct_case(lab, seconds, pinned) for pinned in ((True,) if quick else both)),
        _gob_case(lab, seconds),
        *(_call_back_case(lab, seconds, pinned) for pinned in unpinned),
        _handshake_case(lab, launches),
        _launch_case(lab, launches),
        _memory_case(lab, seconds),
    ]


def _contenders(
    lab: Lab, seconds: float, *, pinned: bool, threads: int = 1, **options: int
) -> dict[str, Callable[[], Values]]:
    return {
        pair(*names): calling(
            lab, *names, seconds, pinned=pinned, threads=threads, size=SMALL, **options
        )
        for names in PAIRS
    }


def _against_go(
    label: str, metric: str, unit: str, target: float, *, at_least: bool = False
) -> list[Row]:
    """Python to Python, which has the target, and either with Go."""

    def row(ours: str, target: float | None = None) -> Row:
        return Row(label, metric, unit, ours, GO_BOTH, target=target, at_least=at_least)

    return [row(OURS_BOTH, target), row(TO_GO), row(FROM_GO)]


def _unary_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    contenders = _contenders(lab, seconds, pinned=pinned)
    grpc = pair(OURS, OURS)
    contenders[grpc] = calling(lab, OURS, OURS, seconds, pinned=pinned, threads=1, size=SMALL)
    rows = [
        *_against_go("latency", "us", "us", 1.0),
        Row("latency, of gRPC's", "us", "us", OURS_BOTH, grpc, target=OF_GRPC),
        Row("host CPU per call", "cpu_us", "us", OURS_BOTH, GO_BOTH, target=1.0),
        Row("host CPU per call", "cpu_us", "us", TO_GO, GO_BOTH),
    ]
    return Case("netrpc", f"unary over net/rpc, {SIZES[SMALL]}, {cpus(pinned)}", contenders, rows)


def _threads_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    contenders = _contenders(lab, seconds, pinned=pinned, threads=THREADS)
    rows = _against_go("calls/s", "per_second", "/s", 0.8, at_least=True)
    title = f"{THREADS} threads over net/rpc, {SIZES[SMALL]}, {cpus(pinned)}"
    return Case("netrpc", title, contenders, rows)


def _struct_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    contenders = _contenders(lab, seconds, pinned=pinned, order=True)
    rows = _against_go("there and back", "us", "us", 2.5)
    title = f"a struct of 11 fields with 100 structs in a slice, {cpus(pinned)}"
    return Case("netrpc", title, contenders, rows)


def _gob_case(lab: Lab, seconds: float) -> Case:
    """The codec alone, with that struct."""

    def measured(*command: str) -> Values:
        found: Values = json.loads(lab.output(command, pinned=True))
        return found

    program = [lab.python(RPC), str(BENCH / "hosts" / "codec.py"), "--seconds", str(seconds)]
    contenders = {
        RPC: lambda: measured(*program),
        PURE: lambda: measured(*program, "--pure"),
        GO_RPC: lambda: measured(str(BUILD / "peers" / "gob"), "-time", f"{seconds}s"),
    }
    rows = [
        Row("decode", "decode_us", "us", RPC, PURE, target=1 / 20),
        Row("decode", "decode_us", "us", RPC, GO_RPC),
        Row("encode", "encode_us", "us", RPC, GO_RPC),
    ]
    return Case("netrpc", "gob by itself, that struct, pinned to one CPU", contenders, rows)


def _call_back_case(lab: Lab, seconds: float, pinned: bool) -> Case:
    """The host serves under a new id and calls the plugin, which dials and calls it back."""
    contenders = _contenders(lab, seconds, pinned=pinned, fewest=FEWEST_CALLS_BACK, call_back=True)
    rows = [
        *_against_go("round trip", "us", "us", 1.0),
        Row("host CPU per round trip", "cpu_us", "us", OURS_BOTH, GO_BOTH),
    ]
    return Case("netrpc", f"call back through MuxBroker, {cpus(pinned)}", contenders, rows)


def _handshake_case(lab: Lab, launches: int) -> Case:
    commands = {PASS: [sys.executable, "-c", "pass"]}
    commands.update({name: lab.plugin(name) for name in (RPC, GO_RPC)})

    def contender(name: str) -> Callable[[], Values]:
        def measure() -> Values:
            times = [first_line_time(lab, name, commands[name]) for _ in range(launches)]
            return {"ms": statistics.median(times) * 1e3}

        return measure

    rows = [
        Row("beyond the interpreter", "ms", "ms", RPC, PASS, "difference", HANDSHAKE_MS),
        Row("exec to handshake", "ms", "ms", RPC, GO_RPC),
    ]
    contenders = {name: contender(name) for name in commands}
    return Case("netrpc", "exec to handshake over net/rpc", contenders, rows)


def _launch_case(lab: Lab, launches: int) -> Case:
    def name_of(host: str, plugin: str, auto_mtls: bool) -> str:
        return f"{pair(host, plugin)}, AutoMTLS" if auto_mtls else pair(host, plugin)

    contenders = {
        name_of(*names, auto_mtls): launching(lab, *names, launches, auto_mtls=auto_mtls)
        for names in PAIRS
        for auto_mtls in (False, True)
    }

    def row(ours: tuple[str, str], auto_mtls: bool, target: float | None = None) -> Row:
        names = name_of(*ours, auto_mtls), name_of(GO_RPC, GO_RPC, auto_mtls)
        return Row("launch to first reply", "first_reply_ms", "ms", *names, target=target)

    rows = [
        row((RPC, GO_RPC), False, 1.0),
        row((RPC, RPC), False),
        row((GO_RPC, RPC), False),
        row((RPC, GO_RPC), True, 0.8),
        row((RPC, RPC), True, 0.8),
        row((GO_RPC, RPC), True),
        Row("kill", "kill_ms", "ms", TO_GO, GO_BOTH),
        Row("kill", "kill_ms", "ms", OURS_BOTH, GO_BOTH),
    ]
    return Case("netrpc", "launch to first reply over net/rpc", contenders, rows)


def _memory_case(lab: Lab, seconds: float) -> Case:
    contenders = {pair(*names): calling_memory(lab, *names, seconds) for names in PAIRS[:2]}

    def row(who: str, kind: str, target: float | None = None) -> Row:
        peer = GO_BOTH if kind == "ratio" else ""
        return Row(f"{who}, resident", f"{who}_rss", "MiB", OURS_BOTH, peer, kind, target)

    rows = [
        row("host", "value", MEMORY_MIB),
        row("plugin", "value", MEMORY_MIB),
        row("host", "ratio"),
        row("plugin", "ratio"),
    ]
    return Case("netrpc", "memory while calling over net/rpc", contenders, rows)
