"""What the Python hosts measure, and how they print it: as tests/peers/go/cmd/bench does.

A host is a program of its own, so that nothing of the orchestrator's is in the measured process:

    host_pygo.py [--calls N --size B --threads T --delay-ms D --call-back --order]
                 [--launch K --idle-ms D]
                 [--stream KIND --messages N --size B] [--loglines N --log-style STYLE]
                 [--stdio MIB] [--auto-mtls] [--multiplex]
                 -- PLUGIN ARGS...

It prints one JSON object with `calls`, `stream`, `launch`, `log` and `stdio`, whichever were asked
for. With `--open N` and `--plugins N` it does something else, which hosts/opened.py describes.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

Json = dict[str, Any]
WARM_UP = 200  # calls before the clock starts, for each caller
MOST_WARM_UP = 1000  # for all callers together
FEW_WARM_UP = 10  # where handlers sleep
CALL_BACK_WARM_UP = 20
COOKIE = ("PYGO_TEST_COOKIE", "pygo")  # of every plugin here and in tests/peers


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=0, help="calls of Echo in all")
    parser.add_argument("--size", type=int, default=100, help="bytes of payload in a message")
    parser.add_argument("--threads", type=int, default=1, help="callers at the same time")
    parser.add_argument("--delay-ms", type=int, default=0, help="how long a handler sleeps")
    parser.add_argument("--call-back", action="store_true", help="dial this host, and call it back")
    parser.add_argument("--order", action="store_true", help="send a large struct, over net/rpc")
    parser.add_argument("--messages", type=int, default=0, help="messages on one stream")
    parser.add_argument("--stream", choices=["server", "client", "chat"], default="server")
    parser.add_argument("--open", type=int, default=0, help="calls to keep open")
    parser.add_argument("--plugins", type=int, default=0, help="plugins to keep running")
    parser.add_argument("--auto-mtls", action="store_true", help="use AutoMTLS")
    parser.add_argument("--multiplex", action="store_true", help="all over one connection")
    parser.add_argument("--template", action="store_true", help="launch from a template")
    parser.add_argument("--launch", type=int, default=0, help="launches of the plugin")
    parser.add_argument("--idle-ms", type=int, default=0, help="pause before each kill")
    parser.add_argument("--loglines", type=int, default=0, help="log lines to mirror")
    parser.add_argument("--stdio", type=int, default=0, help="MiB that the plugin prints")
    parser.add_argument("--log-style", choices=["full", "default", "records"], default="full")
    parser.add_argument("plugin", nargs="+", help="the plugin's command line")
    return parser.parse_args()


def cpu_us() -> float:
    """CPU time of this process so far, its plugin's not included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


def system_us() -> float:
    """The part of it that was spent in the system."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime * 1e6


def summary(durations: Iterable[float], unit: float) -> dict[str, float]:
    """Describe durations, given in seconds, in `unit`s a second."""
    ordered = sorted(durations)

    def at(quantile: float) -> float:
        return ordered[int(quantile * (len(ordered) - 1))] * unit

    return {"median": at(0.5), "p90": at(0.9), "p99": at(0.99), "min": at(0), "max": at(1)}


def measure_calls(call: Callable[[], object], arguments: argparse.Namespace) -> Json:
    """Make the calls from as many threads as asked for."""
    each = max(arguments.calls // arguments.threads, 1)
    for _ in range(_warm_up(arguments)):
        call()
    durations = [array("d") for _ in range(arguments.threads)]
    start = threading.Barrier(arguments.threads + 1)
    failures: list[BaseException] = []

    def caller(own: array[float]) -> None:
        clock = time.perf_counter
        start.wait()
        try:
            for _ in range(each):
                begin = clock()
                call()
                own.append(clock() - begin)
        except BaseException as error:
            failures.append(error)

    if arguments.threads == 1:  # the main thread, as a simple program has it
        start = threading.Barrier(1)
        system, cpu, begin = system_us(), cpu_us(), time.perf_counter()
        caller(durations[0])
    else:
        threads = [threading.Thread(target=caller, args=(own,)) for own in durations]
        for thread in threads:
            thread.start()
        system, cpu, begin = system_us(), cpu_us(), time.perf_counter()
        start.wait()
        for thread in threads:
            thread.join()
    elapsed, cpu, system = time.perf_counter() - begin, cpu_us() - cpu, system_us() - system
    if failures:
        raise failures[0]
    return _call_result(durations, elapsed, cpu, system, arguments)


async def measure_calls_async(
    call: Callable[[], Awaitable[object]], arguments: argparse.Namespace
) -> Json:
    """The same with a task for each caller, for hosts that live on an event loop."""
    import asyncio  # here, since it would count as memory of hosts that do without

    each = max(arguments.calls // arguments.threads, 1)
    for _ in range(_warm_up(arguments)):
        await call()
    durations = [array("d") for _ in range(arguments.threads)]

    async def caller(own: array[float]) -> None:
        clock = time.perf_counter
        for _ in range(each):
            begin = clock()
            await call()
            own.append(clock() - begin)

    system, cpu, begin = system_us(), cpu_us(), time.perf_counter()
    await asyncio.gather(*(caller(own) for own in durations))
    elapsed, cpu, system = time.perf_counter() - begin, cpu_us() - cpu, system_us() - system
    return _call_result(durations, elapsed, cpu, system, arguments)


def _warm_up(arguments: argparse.Namespace) -> int:
    if arguments.delay_ms:
        return FEW_WARM_UP
    if arguments.call_back:
        return CALL_BACK_WARM_UP
    return min(WARM_UP * arguments.threads, MOST_WARM_UP)


def _call_result(
    durations: list[array[float]],
    elapsed: float,
    cpu: float,
    system: float,
    arguments: argparse.Namespace,
) -> Json:
    flat = [duration for own in durations for duration in own]
    return {
        "calls": len(flat),
        "size": arguments.size,
        "threads": arguments.threads,
        "latency_us": summary(flat, 1e6),
        "per_second": len(flat) / elapsed,
        "host_cpu_us_per_call": cpu / len(flat),
        "host_system_us_per_call": system / len(flat),
    }


def launch_result(replies: list[float], kills: list[float]) -> Json:
    return {
        "launches": len(replies),
        "first_reply_ms": summary(replies, 1e3),
        "kill_ms": summary(kills, 1e3),
    }


def report(**results: Json | None) -> None:
    print(json.dumps({name: result for name, result in results.items() if result}), flush=True)
