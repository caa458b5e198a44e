"""The server of pygo_plugin.aio, and plugins that serve with it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest

import pygo_plugin
from pygo_plugin import aio

DEADLINE = 20.0


class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.done: list[Any] = []
        self.loop_thread = threading.get_ident()

    async def Echo(self, request: Any, context: Any) -> Any:
        context.add_done_callback(self.done.append)
        assert isinstance(context, grpc.aio.ServicerContext)
        assert context.peer().startswith("unix:")
        assert context.is_active()
        assert not context.done()
        self.started.set()
        await self.release.wait()
        return probe_pb2.EchoReply(payload=request.payload)

    async def Fail(self, request: Any, context: Any) -> Any:
        if request.code == 0:
            return b"not a message"
        if request.code == 1:
            raise ValueError("as asked")
        if request.code == 2:
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")
            return probe_pb2.FailReply()
        return await context.abort(grpc.StatusCode.OK, "not a failure")

    def Sum(self, request_iterator: Any, context: Any) -> Any:  # on a worker
        assert threading.get_ident() != self.loop_thread
        return probe_pb2.SumReply(total=sum(request.value for request in request_iterator))

    def Environ(self, request: Any, context: Any) -> Any:  # on a worker
        assert threading.get_ident() != self.loop_thread
        return probe_pb2.EnvironReply(pid=1)

    async def Chat(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            with pytest.raises(aio.UsageError):
                await context.read()
            yield request


async def start(path: Any, **options: Any) -> tuple[Any, Probe, str]:
    server, probe, target = aio.server(**options), Probe(), f"unix:{path}/s"
    probe_pb2_grpc.add_ProbeServicer_to_server(probe, server)
    server.add_insecure_port(target)
    await server.start()
    return server, probe, target


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


def test_sync_methods_beside_coroutines(socket_dir: Any) -> None:
    async def main() -> None:
        server, _, target = await start(socket_dir)
        async with aio.insecure_channel(target) as channel:
            stub = probe_pb2_grpc.ProbeStub(channel)
            for _ in range(3):
                assert (await stub.Environ(probe_pb2.EnvironRequest())).pid == 1
                numbers = [probe_pb2.SumRequest(value=n) for n in range(4)]
                assert (await stub.Sum(numbers)).total == 6
        await server.stop(None)

    run(main())


def test_what_methods_end_with(socket_dir: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server, _, target = await start(socket_dir)
        async with aio.insecure_channel(target) as channel:
            stub = probe_pb2_grpc.ProbeStub(channel)
            codes = []
            for code in range(4):
                with pytest.raises(grpc.RpcError) as caught:
                    await stub.Fail(probe_pb2.FailRequest(code=code))
                codes.append(caught.value.code().name)
            assert codes == ["INTERNAL", "UNKNOWN", "DATA_LOSS", "UNKNOWN"]
            with pytest.raises(grpc.RpcError) as caught:
                await channel.unary_unary("/no/thing")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            messages = [probe_pb2.ChatMessage(payload=b"x")]
            assert [reply async for reply in stub.Chat(messages)] == messages
        await server.stop(None)

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "as asked" in caplog.text


def test_stopping_with_grace(socket_dir: Any) -> None:
    async def main() -> None:
        server, probe, target = await start(socket_dir)
        async with aio.insecure_channel(target) as channel:
            call = probe_pb2_grpc.ProbeStub(channel).Echo(probe_pb2.EchoRequest(payload=b"x"))
            await probe.started.wait()
            assert not await server.wait_for_termination(0.01)
            stopping = asyncio.ensure_future(server.stop(10))
            await asyncio.wait((stopping,), timeout=0.05)
            assert not stopping.done()
            probe.release.set()
            assert (await call).payload == b"x"
            await stopping
        assert await server.wait_for_termination()
        assert len(probe.done) == 1
        assert probe.done[0].done()
        assert not probe.done[0].cancelled()

    run(main())


def test_stopping_without_grace_cancels(socket_dir: Any) -> None:
    async def main() -> None:
        server, probe, target = await start(socket_dir)
        async with aio.insecure_channel(target) as channel:
            call = probe_pb2_grpc.ProbeStub(channel).Echo(probe_pb2.EchoRequest(payload=b"x"))
            await probe.started.wait()
            await server.stop(None)
            assert probe.done[0].cancelled()
            with pytest.raises(grpc.aio.AioRpcError):
                await call

    run(main())


def test_maximum_concurrent_rpcs(socket_dir: Any) -> None:
    async def main() -> None:
        server, probe, target = await start(socket_dir, maximum_concurrent_rpcs=1)
        async with aio.insecure_channel(target) as channel:
            stub = probe_pb2_grpc.ProbeStub(channel)
            first = stub.Echo(probe_pb2.EchoRequest(payload=b"x"))
            await probe.started.wait()
            with pytest.raises(grpc.RpcError) as caught:
                await stub.Echo(probe_pb2.EchoRequest())
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            probe.release.set()
            assert (await first).payload == b"x"
        await server.stop(None)

    run(main())


def test_server_interceptors(socket_dir: Any) -> None:
    seen = []

    class Look(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(details.method)
            await asyncio.sleep(0)
            return await continuation(details)

    async def main() -> None:
        server, probe, target = await start(socket_dir, interceptors=[Look(), Look()])
        probe.release.set()
        async with aio.insecure_channel(target) as channel:
            stub = probe_pb2_grpc.ProbeStub(channel)
            await stub.Echo(probe_pb2.EchoRequest())
            await stub.Echo(probe_pb2.EchoRequest())
            await stub.Environ(probe_pb2.EnvironRequest())
        await server.stop(None)

    run(main())
    assert seen == 4 * ["/probe.Probe/Echo"] + 2 * ["/probe.Probe/Environ"]


def test_a_server_starts_once(socket_dir: Any) -> None:
    async def main() -> None:
        server, _, _ = await start(socket_dir)
        with pytest.raises(pygo_plugin.PluginError):
            await server.start()
        await server.stop(None)
        with pytest.raises(pygo_plugin.PluginError):
            await aio.server().wait_for_termination()

    run(main())


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
