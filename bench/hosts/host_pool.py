"""Measures pools: `host_pool.py dispatch|compute SECONDS -- PLUGIN...` prints JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import probe_pb2
import probe_pb2_grpc
from measure import COOKIE

from pygo_plugin import Client, HandshakeConfig, Plugin, Pool, Supervisor

THREADS = 8


class ProbePlugin(Plugin):
    def client_class(self):
        return probe_pb2_grpc.ProbeStub


def dispatch(seconds: float, command: list[str], options: dict) -> dict[str, float]:
    """The medians of single calls, each way in turn, so that all meet the same machine."""
    request = probe_pb2.EchoRequest(payload=b"x" * 100)
    with (
        Client(command, **options) as client,
        Supervisor(command, **options) as supervisor,
        Pool(command, size=4, **options) as pool,
    ):
        ways = [owner.dispense("probe")[1].Echo for owner in (client, supervisor, pool)]
        times: list[list[float]] = [[] for _ in ways]
        clock = time.perf_counter
        end = clock() + 3 * seconds
        while clock() < end:
            for way, taken in zip(ways, times):
                began = clock()
                way(request)
                taken.append(clock() - began)
    direct, supervised, pooled = (statistics.median(taken) * 1e6 for taken in times)
    return {
        "direct_us": direct,
        "supervisor_us": supervised - direct,
        "pool_us": pooled - direct,
    }


def compute(seconds: float, command: list[str], options: dict) -> dict[str, float]:
    one, four = (rate(size, seconds, command, options) for size in (1, 4))
    return {"one": one, "four": four, "ratio": four / one}


def rate(size: int, seconds: float, command: list[str], options: dict) -> float:
    """How many calls a second a pool of this size answers."""
    request = probe_pb2.EchoRequest(payload=b"compute")
    with Pool(command, size=size, **options) as pool, ThreadPoolExecutor(THREADS) as threads:
        _, probe = pool.dispense("probe")

        def call(_: int) -> None:
            probe.Echo(request)

        list(threads.map(call, range(2 * THREADS)))
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 3 * seconds:
            list(threads.map(call, range(4 * THREADS)))
            count += 4 * THREADS
        return count / (time.perf_counter() - began)


def main() -> None:
    mode, seconds, _, *command = sys.argv[1:]
    options = {"handshake_config": HandshakeConfig(1, *COOKIE), "plugins": {"probe": ProbePlugin()}}
    measure = {"dispatch": dispatch, "compute": compute}[mode]
    print(json.dumps(measure(float(seconds), command, options)))


main()
