"""Known faults of gRPC 1.51 that a peer can use, all mended in the core that the package ships.

docs/security.md lists them. The patches are in scripts/core.d/patches, and most tests fail with a
core that lacks them. The others are attacks that gRPC 1.51 withstands as it is (odd headers, calls
that are too late, empty frames), or show what a patch must not break.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import http2
import probe_pb2
import pytest
from floods import ECHO, FLOODER, TIMEOUT, Good, answered_resets, flood_server, resets
from http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    frame,
)
from processes import forget_most_memory, memory, most_memory

from pygo_plugin import rpc

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

MIB = 1 << 20
CANCEL = struct.pack(">I", 8)
REQUEST = http2.request(ECHO)
# Values that no such header may have, and a header that only gRPC itself may make.
ODD = [(b"te", b"x"), (b":scheme", b"x"), (b":method", b"x"), (b"grpclb_client_stats", b"x")]


def timeouts(count: int) -> Iterator[bytes]:
    """Calls whose time is over when they arrive: the server resets them."""
    for number in range(1, 2 * count, 2):
        headers = http2.request(ECHO, (b"grpc-timeout", b"1n"))
        yield frame(HEADERS, END_HEADERS, number, headers)


def empty_data(count: int) -> Iterator[bytes]:
    yield frame(HEADERS, END_HEADERS, 1, REQUEST)
    for _ in range(count):
        yield frame(DATA, 0, 1)


# Each with what it may take at most while it lasts, in MiB.
FLOODS: dict[str, tuple[Callable[[], Iterator[bytes]], int]] = {
    "resets": (lambda: resets(15_000), 90),
    "answered resets": (lambda: answered_resets(15_000), 90),
    "timeouts": (lambda: timeouts(5_000), 90),
    "continuations": (lambda: http2.continuations(1, REQUEST, 24 * MIB), 16),
    "empty continuations": (lambda: http2.empty_continuations(1, REQUEST, 50_000), 16),
    "endless header": (lambda: http2.endless_header(1, REQUEST, 12 * MIB), 16),
    "endless number": (lambda: http2.endless_number(1, 8 * MIB), 12),
    "pings": (lambda: http2.pings(200_000), 24),
    "empty data": (lambda: empty_data(50_000), 16),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_a_plugin(flood: str, peers: Any, make_client: Any) -> None:
    """A flood takes little memory, whether or not its sender reads answers. Others are served."""
    frames, limit = FLOODS[flood]
    client = make_client(peers.plugin("python"))
    _, probe = client.dispense("probe")
    path = client.start().string()
    good = Good(probe)
    before = memory(client.pid)
    flood_server(path, frames, True, False)
    assert good.end() > 0
    assert client.ping() == ""
    assert most_memory(client.pid) - before < limit


HOST_FLOODS = {
    "continuations": 24,
    "empty continuations": 16,
    "endless header": 16,
    "endless number": 12,
    "pings": 24,
    "odd headers": 16,
}


@pytest.mark.parametrize("flood", HOST_FLOODS)
def test_a_flood_of_a_host(flood: str, peers: Any, make_client: Any) -> None:
    _, probe = make_client(peers.plugin("python")).dispense("probe")
    assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload == b"x"
    good = Good(probe)
    hostile = make_client([sys.executable, str(FLOODER), flood])
    hostile.start()
    before = memory()
    forget_most_memory()
    assert hostile.ping(2.0) != ""
    hostile.kill()
    assert good.end() > 0
    assert most_memory() - before < HOST_FLOODS[flood]


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_header_in_many_frames(peers: Any, make_client: Any) -> None:
    """It was parsed from its beginning with each frame, which took the processor for 10 s."""
    client = make_client(peers.plugin("python", "--config", f'{{"max_metadata_size": {MIB}}}'))
    path = client.start().string()
    before = processor_time(client.pid)
    connection = http2.Reading(path)
    connection.flood(http2.crumbs(1, REQUEST, 600_000))
    connection.flood(iter([frame(DATA, END_STREAM, 1, http2.message(b""))]))
    assert connection.receives(DATA, 1)
    connection.close()
    assert processor_time(client.pid) - before < 2.5


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[0].decode())
def test_odd_headers(odd: tuple[bytes, bytes], peers: Any, make_client: Any) -> None:
    """gRPC 1.51 does not abort for them, as 1.52 does, even with too much metadata behind them."""
    client = make_client(peers.plugin("python", "--config", '{"max_metadata_size": 8192}'))
    path = client.start().string()
    block = REQUEST + http2.entry(*odd)
    for more in (b"", http2.entry(b"key", bytes(9000))):
        connection = http2.Reading(path)
        connection.send(frame(HEADERS, END_HEADERS, 1, block + more))
        assert connection.answers_ping() is (more == b"")
        connection.close()
    assert client.ping() == ""


def test_a_large_table_of_headers(peers: Any, make_client: Any) -> None:
    options = {"server_options": [["grpc.http2.hpack_table_size.decoder", 1 << 16]]}
    client = make_client(peers.plugin("python", "--config", json.dumps(options)))
    connection = http2.Reading(client.start().string())
    assert connection.receives(SETTINGS, 0)
    connection.send(frame(SETTINGS, ACK, 0))
    # To use all of the table, and to enter 1,000 headers into it.
    block = b"\x3f\xe1\xff\x03"
    block += b"".join(b"\x40" + http2.entry(b"k%d" % i, b"")[1:] for i in range(1000))
    connection.send(frame(HEADERS, END_HEADERS, 1, block + REQUEST))
    connection.send(frame(DATA, END_STREAM, 1, http2.message(b"")))
    assert connection.receives(HEADERS, 1)
    connection.close()


# ---- Headers of calls that are ignored -----------------------------------------------------------


def test_an_ignored_header_in_two_frames(peers: Any, make_client: Any) -> None:
    """Headers of a call that has ended are parsed and ignored, wherever a frame cuts them."""
    client = make_client(peers.plugin("python"))
    connection = http2.Reading(client.start().string())
    connection.send(frame(HEADERS, END_HEADERS, 3, REQUEST) + frame(RST_STREAM, 0, 3, CANCEL))
    header = http2.entry(b"key", b"value")
    connection.send(frame(HEADERS, 0, 1, header[:5]))
    connection.send(frame(CONTINUATION, END_HEADERS, 1, header[5:]))
    assert connection.answers_ping()
    connection.close()


def test_half_of_an_ignored_header(peers: Any, make_client: Any) -> None:
    """It was taken for the beginning of the next call's headers."""
    client = make_client(peers.plugin("python"))
    connection = http2.Reading(client.start().string())
    connection.send(frame(HEADERS, END_HEADERS, 3, REQUEST) + frame(RST_STREAM, 0, 3, CANCEL))
    connection.flood(iter([frame(HEADERS, END_HEADERS, 1, http2.entry(b"key", b"", 100))]))
    connection.flood(iter([frame(HEADERS, END_HEADERS, 5, bytes(100) + REQUEST)]))
    assert not connection.answers_ping()
    connection.close()
    assert client.ping() == ""


# ---- Pauses --------------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_cancelled_calls_do_not_keep_others_waiting(peers: Any, make_client: Any) -> None:
    """The server stops reading while many cancelled calls wait for a worker, but not for ever.

    The only worker waits for a message that is sent behind them.
    """
    client = make_client(peers.plugin("python", "--workers", "1"))
    path = client.start().string()
    connection = http2.Reading(path)
    connection.send(frame(HEADERS, END_HEADERS, 1, http2.request(b"/probe.Probe/Chat")))
    connection.send(frame(DATA, 0, 1, http2.message(b"")))
    assert connection.receives(DATA, 1)
    other = http2.Connection(path)
    other.flood(resets(2_000))
    other.close()
    for number in range(3, 4_003, 2):
        connection.send(frame(HEADERS, END_HEADERS, number, REQUEST))
        connection.send(frame(RST_STREAM, 0, number, CANCEL))
    connection.send(frame(DATA, END_STREAM, 1, http2.message(b"")))
    assert connection.receives(DATA, 1)
    connection.close()


# ---- Sockets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_connections_beyond_the_limit(network: str, peers: Any, make_client: Any) -> None:
    """A plugin that has run out of descriptors accepts connections when it has some again."""
    client = make_client(peers.plugin("python", "--network", network))
    address = client.start()
    assert client.ping() == ""
    limit = descriptors(client.pid) + 10
    resource.prlimit(client.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as many:
        first = many.enter_context(connected(address))
        for _ in range(30):
            many.enter_context(connected(address))
        assert first.recv(9) != b""
        # The others have been accepted, or wait.
    with connected(address) as late:
        assert late.recv(9) != b""


def connected(address: Any) -> socket.socket:
    """A connection that has said what a client says first."""
    if address.network() == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.connect(address.string())
    else:
        host, port = address.string().rsplit(":", 1)
        made = socket.create_connection((host, int(port)))
    made.settimeout(TIMEOUT)
    made.sendall(http2.PREFACE + frame(http2.SETTINGS, 0, 0))
    return made


def test_data_is_always_copied(caplog: Any, eventually: Any) -> None:
    """Data that is sent without a copy could be changed meanwhile, which cannot be provoked."""
    server = rpc.server(options=[("grpc.experimental.tcp_tx_zerocopy_enabled", 1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(TIMEOUT)
        client.sendall(http2.PREFACE + frame(SETTINGS, 0, 0))
        assert client.recv(9) != b""
    eventually(lambda: "tcp_tx_zerocopy_enabled is not supported" in caplog.text, "the log line")
    server.stop(None).wait(TIMEOUT)


def test_names_of_hosts(peers: Any, make_client: Any) -> None:
    """A plugin on TCP may name its host. The core has no resolver of its own for that."""
    plugin = make_client(peers.plugin("python", "--network", "tcp"))
    port = plugin.start().string().rsplit(":", 1)[1]
    with rpc.insecure_channel(f"localhost:{port}") as channel:
        assert channel.unary_unary(ECHO.decode())(b"", timeout=TIMEOUT) != b""


def test_a_channel_that_is_closed_while_it_connects(socket_dir: Path) -> None:
    """The server accepts the connection, and never says its SETTINGS."""
    path = str(socket_dir / "silent")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(TIMEOUT)
        channel: Any = rpc.insecure_channel(f"unix:{path}")
        channel.subscribe(lambda state: None, try_to_connect=True)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            assert connection.recv(3) == b"PRI"
            channel.close()
            del channel
            # gRPC gives a connection 20 s to come about.
            connection.settimeout(15)
            while connection.recv(4096):
                pass
    os.unlink(path)
