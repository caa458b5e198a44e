"""Holds calls or plugins open while bench/memory.py looks at host and plugin.

With calls that stay open, a line is printed before the first one and when the plugin works on all
of them; with plugins, when one has answered and when all have. After each, the host waits for a
line of input. tests/peers/go/cmd/bench does the same.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import probe_pb2
from measure import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable


def hold_open(stub: Any, count: int) -> None:
    for _ in range(WARM_UP):
        stub.Echo(probe_pb2.EchoRequest())
    _pause("idle")
    calls = [stub.Hang.future(probe_pb2.HangRequest()) for _ in range(count)]
    while stub.Cancelled(probe_pb2.CancelledRequest()).started < count:
        pass  # the wait for the answer is enough of a pause
    _pause("open")
    for call in calls:
        call.cancel()


def hold_plugins(dispense: Callable[[], Any], count: int) -> None:
    """`dispense` launches a plugin and returns its stub."""
    for number in range(count):
        dispense().Echo(probe_pb2.EchoRequest())
        if number == 0:
            _pause("one")
    _pause("all")


async def hold_open_async(stub: Any, count: int) -> None:
    for _ in range(WARM_UP):
        await stub.Echo(probe_pb2.EchoRequest())
    _pause("idle")
    calls = [stub.Hang(probe_pb2.HangRequest()) for _ in range(count)]
    while (await stub.Cancelled(probe_pb2.CancelledRequest())).started < count:
        pass  # the wait for the answer is enough of a pause
    _pause("open")
    for call in calls:
        call.cancel()


def _pause(text: str) -> None:
    print(text, flush=True)
    sys.stdin.readline()
