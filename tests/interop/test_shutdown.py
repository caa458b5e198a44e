"""kill() while a call is under way: the plugin ends it within its grace, and exits by itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0

PLUGIN = """
import asyncio, atexit, pathlib, sys, threading, time
from concurrent import futures
import probe_pb2, probe_pb2_grpc, pygo_plugin_peer
from pygo_plugin import Plugin, ServeConfig, aio, serve, server

kind, left, grace = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
atexit.register(left.touch)

class Probe(probe_pb2_grpc.ProbeServicer):
    started = 0

    def Cancelled(self, request, context):
        return probe_pb2.CancelledReply(started=self.started)

    def Hang(self, request, context):
        self.started += 1
        print("hangs", file=sys.stderr, flush=True)
        if kind == "deaf":
            time.sleep(600)
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait()
        return probe_pb2.HangReply()

class AsyncProbe(Probe):
    async def Cancelled(self, request, context):
        return probe_pb2.CancelledReply(started=self.started)

    async def Hang(self, request, context):
        self.started += 1
        print("hangs", file=sys.stderr, flush=True)
        await asyncio.sleep(600)

class ProbePlugin(Plugin):
    def server_register(self, server):
        servicer = AsyncProbe() if kind == "asyncio" else Probe()
        probe_pb2_grpc.add_ProbeServicer_to_server(servicer, server)

class GrpcioServer(server.Server):
    def server(self, **options):
        import grpc
        return grpc.server(futures.ThreadPoolExecutor(4))

config = ServeConfig(handshake_config=pygo_plugin_peer.HANDSHAKE, plugins={"probe": ProbePlugin()},
                     **({"shutdown_grace": float(grace[0])} if grace else {}))
if kind == "asyncio":
    asyncio.run(aio.serve(config))
elif kind == "grpcio":
    assert GrpcioServer(config).serve(wait=True)
else:
    serve(config)
"""

KINDS = ["threads", "deaf", "asyncio", "grpcio"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A file that the plugin's exit handlers make."""
    return tmp_path / "left"


def plugin(kind: str, left: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PLUGIN, kind, str(left), *arguments]


def hang(client: Any, records: Any) -> Any:
    import probe_pb2

    _, stub = client.dispense("probe")
    call = stub.Hang.future(probe_pb2.HangRequest())
    records.wait_for("hangs")
    return call


@pytest.mark.parametrize("options", [{}, {"auto_mtls": True}, {"broker_multiplex": True}])
def test_a_call_under_way_does_not_cost_the_plugin_its_end(
    kind: str, left: Path, make_client: Any, records: Any, options: dict[str, Any]
) -> None:
    if kind == "grpcio" and options:
        options = {}  # a server of grpcio's own takes no keys of AutoMTLS
    # More patience than on an idle machine: what counts is that the plugin needs no SIGKILL.
    client = make_client(plugin(kind, left), kill_timeout=DEADLINE, **options)
    call = hang(client, records)
    client.kill()
    assert client.exit_status == 0
    assert left.exists()
    assert call.code().name in ("CANCELLED", "UNAVAILABLE")


def test_the_same_from_an_asyncio_host(
    kind: str, left: Path, handshake: Any, plugins: Any, records: Any
) -> None:
    import probe_pb2

    from pygo_plugin import aio

    async def main() -> int | None:
        async with aio.Client(
            plugin(kind, left),
            handshake_config=handshake,
            plugins=plugins,
            kill_timeout=DEADLINE,
        ) as client:
            _, stub = await client.dispense("probe")
            call = stub.Hang(probe_pb2.HangRequest())
            await asyncio.to_thread(records.wait_for, "hangs")
            await client.kill()
            assert (await call.code()).name in ("CANCELLED", "UNAVAILABLE")
            return client.exit_status

    assert asyncio.run(asyncio.wait_for(main(), 3 * DEADLINE)) == 0
    assert left.exists()


ATTEMPTS = 5  # the plugin has a second for its exit, which another process may use up


def test_an_end_takes_less_than_the_default_timeout(
    kind: str, tmp_path: Path, make_client: Any, records: Any
) -> None:
    for attempt in range(ATTEMPTS):
        left = tmp_path / str(attempt)
        client = make_client(plugin(kind, left))
        hang(client, records)
        records.records.clear()
        client.kill()
        if client.exit_status == 0:
            assert left.exists()
            return
    pytest.fail("it was killed each time")


def test_an_end_takes_less_than_go_plugins_patience(
    kind: str, tmp_path: Path, go_host: Any
) -> None:
    for attempt in range(ATTEMPTS):
        left = tmp_path / str(attempt)
        go_host.do("start", cmd=plugin(kind, left))
        go_host.do("hang_on")
        go_host.do("kill")
        if left.exists():
            return
    pytest.fail("it was killed each time")


def test_a_longer_grace_lets_calls_finish(make_client: Any, peers: Any) -> None:
    import probe_pb2

    client = make_client(
        peers.plugin("python", "--config", '{"shutdown_grace": 20}'), kill_timeout=DEADLINE
    )
    _, stub = client.dispense("probe")
    request = probe_pb2.EchoRequest(payload=b"x", delay_ms=1500)
    call = stub.Echo.future(request)
    assert stub.Echo(probe_pb2.EchoRequest(), timeout=DEADLINE)
    client.kill()
    assert call.result(DEADLINE).payload == b"x"
    assert client.exit_status == 0


def test_without_a_timeout_a_plugin_is_not_asked(
    left: Path, make_client: Any, records: Any
) -> None:
    client = make_client(plugin("threads", left), kill_timeout=0)
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == -signal.SIGKILL
    assert not left.exists()


def test_a_suspended_plugin_is_killed_after_the_timeout(
    left: Path, make_client: Any, freeze: Any
) -> None:
    client = make_client(plugin("threads", left), kill_timeout=0.1)
    client.start()
    freeze(client.pid)
    client.kill()
    assert client.exit_status == -signal.SIGKILL
