"""Starting and ending: exec to handshake of a plugin, launch to first reply, kill."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

from contenders import pair
from lab import (
    BARE,
    GO,
    GRPCIO,
    OPTIONAL,
    OURS,
    Lab,
    end_group,
    first_line,
    handshake_target,
)
from rounds import Case, Row, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PASS = "python -c pass"
KILL_MS = 10
IDLE_MS = 200  # until a plugin that has just answered for the first time has come to rest
HANDSHAKE_MS = 25
AUTO_MTLS_MS = 5  # more, on each side of ours


def cases(lab: Lab, launches: int) -> list[Case]:
    """`launches` is how often each contender is launched in one round."""
    return [_handshake_case(lab, launches), _launch_case(lab, launches)]


def _handshake_case(lab: Lab, launches: int) -> Case:
    optional = [name for name in OPTIONAL if name not in lab.missing]
    commands = {
        PASS: [sys.executable, "-c", "pass"],
        **{name: lab.plugin(name) for name in (BARE, OURS, GRPCIO, GO, *optional)},
    }

    def contender(name: str, command: Sequence[str]) -> Callable[[], Values]:
        def measure() -> Values:
            times = [first_line_time(lab, name, command) for _ in range(launches)]
            return {"ms": statistics.median(times) * 1e3}

        return measure

    def row(label: str, ours: str, peer: str) -> Row:
        return Row(label, "ms", "ms", ours, peer)

    rows = [
        Row("no stubs, beyond the interpreter", "ms", "ms", BARE, PASS, "difference", HANDSHAKE_MS),
        row("no stubs", BARE, GRPCIO),
        row("generated stubs", OURS, GRPCIO),
        row("no stubs", BARE, GO),
        *(row("generated stubs", OURS, name) for name in optional),
    ]
    contenders = {name: contender(name, command) for name, command in commands.items()}
    return Case("start", "exec to handshake", contenders, rows)


def first_line_time(lab: Lab, name: str, command: Sequence[str]) -> float:
    """Seconds from before the launch until the first line, or until the end if there is none."""
    begin = time.perf_counter()
    process = lab.spawn(command)
    try:
        line = first_line(process)
        if name == PASS:
            process.wait()
        took = time.perf_counter() - begin
    finally:
        end_group(process)
    if name != PASS:
        handshake_target(line)
    return took


def _launch_case(lab: Lab, launches: int) -> Case:
    pairs = [(OURS, GO), (GO, GO), (OURS, OURS), (OURS, BARE), (GO, OURS), (GRPCIO, GRPCIO)]
    idle = [(OURS, GO), (OURS, BARE), (OURS, OURS)]
    pairs += [(name, name) for name in OPTIONAL if name not in lab.missing]
    encrypted = [(OURS, GO), (GO, GO), (OURS, OURS), (OURS, BARE)]

    def contender(host: str, plugin: str, **options: int) -> Callable[[], Values]:
        return launching(lab, host, plugin, launches, **options)

    def reply(ours: str, peer: str) -> Row:
        return Row("launch to first reply", "first_reply_ms", "ms", ours, peer)

    def added(host: str, plugin: str, target: float | None = None) -> Row:
        ours, plain = encrypted_name(host, plugin), pair(host, plugin)
        return Row("AutoMTLS adds", "first_reply_ms", "ms", ours, plain, "difference", target)

    def encrypted_name(host: str, plugin: str) -> str:
        return f"{pair(host, plugin)}, AutoMTLS"

    def kill(ours: str, peer: str) -> Row:
        return Row("kill", "kill_ms", "ms", ours, peer)

    def idle_name(host: str, plugin: str) -> str:
        return f"{pair(host, plugin)}, idle"

    def idle_kill(ours: str) -> Row:
        return Row("kill of an idle plugin", "kill_ms", "ms", ours, kind="value", target=KILL_MS)

    ours, theirs = pair(OURS, GO), pair(GO, GO)
    from_template = f"{pair(OURS, OURS)}, template"
    both, by_hand = pair(OURS, OURS), pair(GRPCIO, GRPCIO)
    optional = [pair(name, name) for name in OPTIONAL if name not in lab.missing]
    rows = [
        reply(ours, theirs),
        kill(ours, theirs),
        *(idle_kill(idle_name(*names)) for names in idle),
        reply(pair(OURS, BARE), theirs),
        reply(pair(GO, OURS), theirs),
        Row("launch to first reply", "first_reply_ms", "ms", from_template, theirs, target=1),
        kill(pair(GO, OURS), theirs),
        *(reply(both, peer) for peer in (by_hand, *optional)),
        *(kill(both, peer) for peer in (by_hand, *optional)),
        reply(encrypted_name(OURS, GO), encrypted_name(GO, GO)),
        reply(encrypted_name(OURS, BARE), encrypted_name(GO, GO)),
        # Without stubs, whose import varies by more than what is added.
        added(OURS, BARE, 2 * AUTO_MTLS_MS),
        *(added(*names) for names in ((OURS, OURS), (OURS, GO), (GO, GO))),
    ]
    contenders = {pair(*names): contender(*names) for names in pairs}
    contenders.update({idle_name(*names): contender(*names, idle_ms=IDLE_MS) for names in idle})
    contenders[from_template] = contender(OURS, OURS, template=True)
    contenders.update(
        {encrypted_name(*names): contender(*names, auto_mtls=True) for names in encrypted}
    )
    return Case("start", "launch to first reply, and kill", contenders, rows)


def launching(
    lab: Lab, host: str, plugin: str, launches: int, **options: int
) -> Callable[[], Values]:
    """Launches of a plugin, each with one call and a kill."""

    def measure() -> Values:
        got = lab.measure(host, plugin, False, launch=launches, **options)["launch"]
        return {
            "first_reply_ms": got["first_reply_ms"]["median"],
            "kill_ms": got["kill_ms"]["median"],
        }

    return measure
