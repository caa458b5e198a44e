"""Measures unary calls under asyncio, round by round: pygo_plugin.aio against grpc.aio.

usage: aio.py [ROUNDS]

In the mixed pairs one side is on this library and the other on grpcio.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build" / "proto")]

OURS, GRPCIO = "pygo", "grpcio"
PAIRS = list(product((OURS, GRPCIO), repeat=2))
FIRST_CALLS = 200
CALLS = 1000
PAYLOAD = bytes(100)


def library(name: str) -> Any:
    if name == OURS:
        from pygo_plugin import aio
    else:
        from grpc import aio
    return aio


async def serve(name: str, target: str) -> None:
    import probe_pb2
    import probe_pb2_grpc

    class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
        async def Echo(self, request: Any, context: Any) -> Any:
            return probe_pb2.EchoReply(payload=request.payload)

    server = library(name).server()
    probe_pb2_grpc.add_ProbeServicer_to_server(Probe(), server)
    server.add_insecure_port(target)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


async def call(name: str, target: str) -> float:
    """Microseconds for one call, the median of five spells."""
    import probe_pb2
    import probe_pb2_grpc

    spells = []
    async with library(name).insecure_channel(target) as channel:
        stub = probe_pb2_grpc.ProbeStub(channel)
        request = probe_pb2.EchoRequest(payload=PAYLOAD)
        for _ in range(FIRST_CALLS):
            await stub.Echo(request)
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(CALLS // 5):
                await stub.Echo(request)
            spells.append((time.perf_counter() - start) / (CALLS // 5) * 1e6)
    return statistics.median(spells)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="pygo-bench-") as scratch:
        targets = {name: f"unix:{scratch}/{name}" for name in (OURS, GRPCIO)}
        servers = [
            subprocess.Popen([sys.executable, __file__, name, target], stdout=subprocess.PIPE)
            for name, target in targets.items()
        ]
        found: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
        try:
            for server in servers:
                assert server.stdout is not None
                server.stdout.readline()
            for _ in range(rounds):
                for host, plugin in PAIRS:
                    # A process of its own, in which the other library has not been loaded.
                    command = [sys.executable, __file__, "call", host, targets[plugin]]
                    found[host, plugin].append(float(subprocess.check_output(command)))
        finally:
            for server in servers:
                server.kill()
                server.wait()
                assert server.stdout is not None
                server.stdout.close()
    theirs = statistics.median(found[GRPCIO, GRPCIO])
    for host, plugin in PAIRS:
        median = statistics.median(found[host, plugin])
        print(f"{host} -> {plugin}: {median:.0f} us, {median / theirs:.2f} of grpc.aio's time")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "none")
    if sys.argv[1:2] == ["call"]:
        print(asyncio.run(call(sys.argv[2], sys.argv[3])))
    elif len(sys.argv) == 3:
        asyncio.run(serve(sys.argv[1], sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else 7)
