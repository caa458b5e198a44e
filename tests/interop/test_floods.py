"""Peers that flood a plugin, or a host, with HTTP/2: others are served, and memory comes back.

What gRPC's core takes while a flood lasts is in docs/security.md; the bounds here are generous.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import http2
import probe_pb2
import pytest
from floods import ECHO, FLOODER, TIMEOUT, Good, answered_resets, flood_server, resets
from processes import memory, most_memory

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]


def streams(count: int) -> Iterator[bytes]:
    """Calls that are begun and never continued."""
    for number in range(1, 2 * count, 2):
        yield http2.frame(http2.HEADERS, http2.END_HEADERS, number, http2.request(ECHO))


def promises(count: int) -> Iterator[bytes]:
    """Calls that announce a message of a gigabyte."""
    for number in range(1, 2 * count, 2):
        yield http2.frame(http2.HEADERS, http2.END_HEADERS, number, http2.request(ECHO))
        yield http2.frame(http2.DATA, 0, number, struct.pack(">BI", 0, 1 << 30) + bytes(1000))


# Each with what it may take at most while it lasts, in MiB.
FLOODS: dict[str, tuple[Callable[[], Iterator[bytes]], int]] = {
    "resets": (lambda: resets(15_000), 600),
    "answered resets": (lambda: answered_resets(15_000), 600),
    "streams": (lambda: streams(5_000), 300),
    "promises": (lambda: promises(100), 100),
    "continuations": (lambda: http2.continuations(1, http2.request(ECHO), 64 << 20), 500),
    "endless header": (lambda: http2.endless_header(1, http2.request(ECHO), 2 << 20), 100),
    "pings": (lambda: http2.pings(100_000), 500),
    "settings": (lambda: http2.settings(100_000), 500),
}


# gRPC does not report these, so the plugin cannot know when to give back the memory they took.
UNSEEN = ("continuations", "pings", "settings")


@pytest.mark.parametrize("server", ["core", "aio"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_a_plugin(
    flood: str, server: str, peers: Any, make_client: Any, eventually: Any
) -> None:
    frames, limit = FLOODS[flood]
    client = make_client(peers.plugin("python", "--server", server))
    _, probe = client.dispense("probe")
    path = client.start().string()
    before = memory(client.pid)
    good = Good(probe)
    flood_server(path, frames, *((True, False) if server == "core" else (True,)))
    assert good.end() > 0
    assert client.ping() == ""
    assert most_memory(client.pid) - before < limit
    if flood not in UNSEEN:
        eventually(lambda: memory(client.pid) - before < 48, "the end of what it has taken")


def test_what_large_messages_have_taken_is_given_back(
    peers: Any, make_client: Any, eventually: Any
) -> None:
    client = make_client(peers.plugin("python"))
    _, probe = client.dispense("probe")
    before = memory(client.pid)
    request = probe_pb2.EchoRequest(payload=bytes(100 << 20))
    reply = probe.Echo(request, timeout=TIMEOUT)
    assert len(reply.payload) == 100 << 20
    del reply
    eventually(lambda: memory(client.pid) - before < 48, "the end of what the message has taken")


@pytest.mark.parametrize("limit", ["max_receive_message_length", "memory_quota"])
@pytest.mark.parametrize("server", ["core", "aio"])
def test_a_gzip_bomb_is_not_unpacked(limit: str, server: str, peers: Any, make_client: Any) -> None:
    """A quarter of a megabyte unpacks to 256, which is more than the plugin accepts."""
    limits = f'{{"{limit}": {4 << 20}}}'
    client = make_client(peers.plugin("python", "--server", server, "--config", limits))
    _, probe = client.dispense("probe")
    before = memory(client.pid)
    good = Good(probe)
    gzip = grpc.Compression.Gzip
    with pytest.raises(grpc.RpcError) as caught:
        probe.Echo(
            probe_pb2.EchoRequest(payload=bytes(256 << 20)), timeout=TIMEOUT, compression=gzip
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert good.end() > 0
    assert most_memory(client.pid) - before < 64


# ---- Hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flood", ["pings", "settings", "continuations", "endless header", "bomb"])
def test_a_flood_of_a_host(flood: str, peers: Any, make_client: Any, eventually: Any) -> None:
    _, probe = make_client(peers.plugin("python")).dispense("probe")
    assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload == b"x"
    before = most_memory()
    good = Good(probe)
    hostile = make_client([sys.executable, str(FLOODER), flood])
    assert hostile.ping(2.0) != ""
    hostile.kill()
    assert hostile.exited()
    assert good.end() > 0
    assert most_memory() - before < 300
