"""Plugins that serve with pygo_plugin.aio. Its server is tested in tests/conformance."""

from __future__ import annotations

import asyncio
import gc
import queue
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest
from aio_stage import DEADLINE

import pygo_plugin
from pygo_plugin import aio, rpc


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


def test_calls_end_with_the_loop_of_their_server(
    socket_dir: Any, eventually: Callable[..., Any]
) -> None:
    loop = asyncio.new_event_loop()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    contexts: list[weakref.ref[Any]] = []
    tasks: list[weakref.ref[Any]] = []

    all_here = asyncio.Event()

    def arrived(context: Any) -> None:
        contexts.append(weakref.ref(context))
        tasks.append(weakref.ref(asyncio.current_task()))
        if len(contexts) == 2:
            all_here.set()

    class Hanging(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
        async def Hang(self, request: Any, context: Any) -> Any:
            arrived(context)
            await asyncio.Event().wait()

        async def Chat(self, request_iterator: Any, context: Any) -> Any:
            arrived(context)
            async for request in request_iterator:
                yield request

    async def main() -> aio.Server:
        server = aio.server()
        probe_pb2_grpc.add_ProbeServicer_to_server(Hanging(), server)
        server.add_insecure_port(f"unix:{socket_dir}/s")
        await server.start()
        return server

    server = loop.run_until_complete(main())
    with rpc.insecure_channel(f"unix:{socket_dir}/s") as channel:
        stub = probe_pb2_grpc.ProbeStub(channel)
        calls = [stub.Hang.future(probe_pb2.HangRequest()), stub.Chat(iter(requests.get, None))]

        loop.run_until_complete(asyncio.wait_for(all_here.wait(), DEADLINE))
        loop.set_exception_handler(lambda loop, context: None)  # tasks destroyed while pending
        loop.close()
        del loop, server  # which knows the methods that run
        eventually(
            lambda: gc.collect() < 0 or not any(ref() for ref in contexts + tasks),
            "the end of the methods",
        )
        codes = [call.code() for call in calls]
    requests.put(None)
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 2


# ---- Plugins ------------------------------------------------------------------------------------


@pytest.mark.go
@pytest.mark.usefixtures("no_leftovers")
def test_under_a_go_host(peers: Any, go_host: Any) -> None:
    go_host.do("start", client="c", cmd=peers.plugin("python", "--server", "aio"))
    go_host.do("ping", client="c")
    go_host.do("sum", client="c", values=[1, 2, 3])
    assert go_host.do("count", client="c", n=5)["count"] == 5
    assert go_host.do("chat", client="c", messages=["a", "b"])["messages"] == ["a", "b"]
    go_host.do("kill", client="c")


def test_a_plugin_that_is_run_by_hand(peers: Any) -> None:
    done = subprocess.run(
        peers.plugin("python", "--server", "aio"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "This program is a plugin" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("no_leftovers")
def test_interrupts_are_swallowed(peers: Any, make_client: Any) -> None:
    import os
    import signal

    client = make_client(peers.plugin("python", "--server", "aio"))
    _, probe = client.dispense("probe")
    os.kill(client.pid, signal.SIGINT)
    assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=10).payload == b"x"
    client.kill()
    assert client.exit_status == 0


def test_a_foreign_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(aio.Server):
        def server(self, **opts: Any) -> Any:
            return grpc.aio.server()

    monkeypatch.setenv("K", "v")
    config = pygo_plugin.ServeConfig(
        handshake_config=pygo_plugin.HandshakeConfig(1, "K", "v"), plugins={}
    )
    with pytest.raises(pygo_plugin.ConfigError, match="Server"):
        run(Foreign(config).serve())


def test_serving_needs_asyncio_alone() -> None:
    script = "import sys, pygo_plugin.aio as a; a.Server, a.serve; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
