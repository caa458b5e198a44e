"""A host with little address space left, and a plugin whose replies are larger than that.

memory_host.py RUN CMD...: RUN is "blocking" or "asyncio". It prints what became of each call, and
then how many MiB of the address space are taken.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

import grpc
import probe_pb2
import pygo_plugin_peer

from pygo_plugin import Client, aio

LIMIT = 1 << 30
SIZES = [1 << 20, 400 << 20, 400 << 20, 1]
OPTIONS: dict[str, Any] = {
    "handshake_config": pygo_plugin_peer.HANDSHAKE,
    "plugins": pygo_plugin_peer.plugins(),
}


def request(size: int) -> probe_pb2.EchoRequest:
    return probe_pb2.EchoRequest(reply_size=size)


def blocking(command: list[str]) -> None:
    with Client(command, **OPTIONS) as client:
        _, probe = client.dispense("probe")
        for size in SIZES:
            try:
                print(len(probe.Echo(request(size), timeout=200).payload))
            except grpc.RpcError as error:
                print(error.code().name)  # type: ignore[attr-defined]


async def asynchronous(command: list[str]) -> None:
    async with aio.Client(command, **OPTIONS) as client:
        _, probe = await client.dispense("probe")
        for size in SIZES:
            try:
                print(len((await probe.Echo(request(size), timeout=200)).payload))
            except grpc.RpcError as error:
                print(error.code().name)  # type: ignore[attr-defined]


def address_space() -> int:
    """How much of it is taken, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize() >> 20


# The plugin has to lift its own limit, which is the soft one.
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, resource.RLIM_INFINITY))
if sys.argv[1] == "blocking":
    blocking(sys.argv[2:])
else:
    asyncio.run(asynchronous(sys.argv[2:]))
print(address_space())
