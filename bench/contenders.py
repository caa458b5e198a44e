"""Contenders that call: a host and a plugin, measured for as long as one measurement may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rounds import Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Json, Lab

FIRST = 400  # calls or messages in the round that is thrown away
FEWEST = 400
MOST = 500_000
SIZES = {100: "100 B", 65536: "64 KiB"}


def pair(host: str, plugin: str) -> str:
    return f"{host} -> {plugin}"


def cpus(pinned: bool) -> str:
    return "pinned to one CPU" if pinned else "unpinned"


def calling(
    lab: Lab,
    host: str,
    plugin: str,
    seconds: float,
    *,
    pinned: bool,
    threads: int,
    size: int,
    fewest: int = FEWEST,
    **options: int,
) -> Callable[[], Values]:
    """Unary calls from `threads` callers; `options` are more of bench/hosts/measure.py's."""

    def measure(count: int) -> tuple[Values, float]:
        got: Json = lab.measure(
            host, plugin, pinned=pinned, calls=count, size=size, threads=threads, **options
        )["calls"]
        values = {
            "us": got["latency_us"]["median"],
            "p99_us": got["latency_us"]["p99"],
            "call_us": 1e6 / got["per_second"],
            "per_second": got["per_second"],
            "cpu_us": got["host_cpu_us_per_call"],
        }
        return values, got["per_second"]

    return _adapting(measure, seconds, fewest)


def streaming(
    lab: Lab,
    host: str,
    plugin: str,
    seconds: float,
    *,
    pinned: bool,
    stream: str,
    size: int,
    **options: int,
) -> Callable[[], Values]:
    """Messages on one call of the kind `stream`, which bench/hosts/measure.py has."""

    def measure(count: int) -> tuple[Values, float]:
        got: Json = lab.measure(
            host, plugin, pinned=pinned, messages=count, stream=stream, size=size, **options
        )["stream"]
        values = {
            "us": got["latency_us"]["median"],
            "p99_us": got["latency_us"]["p99"],
            "per_second": got["per_second"],
            "mb_per_second": got["mb_per_second"],
            "cpu_us": got["host_cpu_us_per_message"],
        }
        return values, got["per_second"]

    return _adapting(measure, seconds, FEWEST)


def _adapting(
    measure: Callable[[int], tuple[Values, float]], seconds: float, fewest: int
) -> Callable[[], Values]:
    """As many next time as fit into `seconds`, and no fewer than `fewest`."""
    count = min(FIRST, fewest)

    def adapted() -> Values:
        nonlocal count
        values, per_second = measure(count)
        count = min(max(int(per_second * seconds), fewest), MOST)
        return values

    return adapted
