"""The life of a server for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from aio_stage import Code, Stage, echo, raised
from stage import streams, unary

import pygo_plugin


class Blocking:
    """A call whose handler waits, and has been entered."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.done: list[Any] = []

    async def behavior(self, request: bytes, context: Any) -> bytes:
        context.add_done_callback(self.done.append)
        self.entered.set()
        await self.leave.wait()
        return b"done"

    async def start(self, stage: Stage, **options: Any) -> Any:
        self.method = await stage.method(unary(self.behavior), **options)
        call = self.method(b"")
        await self.entered.wait()
        return call


def test_stopping_with_grace(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        blocking = Blocking()
        call = await blocking.start(stage)
        (server,) = stage.servers
        stopping = asyncio.ensure_future(server.stop(1000))
        await asyncio.wait((stopping,), timeout=0.05)
        assert not stopping.done()
        assert (await raised(blocking.method(b""))).code() is Code.UNAVAILABLE
        blocking.leave.set()
        assert await call == b"done"
        await stopping
        assert await server.wait_for_termination() is False
        if stage.ours:  # grpc.aio's server returns before its handlers have
            assert len(blocking.done) == 1
            assert blocking.done[0].done()
            assert not blocking.done[0].cancelled()

    play(scene)


def test_stopping_without_grace_cancels(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        blocking = Blocking()
        call = await blocking.start(stage)
        await stage.servers[0].stop(None)
        error = await raised(call)
        assert error.code() in (Code.UNAVAILABLE, Code.CANCELLED)
        if stage.ours:
            assert blocking.done[0].cancelled()

    play(scene)


def test_stopping_when_the_grace_is_over(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        call = await Blocking().start(stage)
        await stage.servers[0].stop(0.05)
        assert (await raised(call)).code() in (Code.UNAVAILABLE, Code.CANCELLED)

    play(scene)


def test_the_shortest_grace_counts(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        call = await Blocking().start(stage)
        (server,) = stage.servers
        await asyncio.gather(server.stop(1000), server.stop(None), server.stop(1000))
        assert (await raised(call)).code() in (Code.UNAVAILABLE, Code.CANCELLED)

    play(scene)


def test_stopping_in_the_middle_of_streams(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered = asyncio.Event()

        async def chat(incoming: Any, context: Any) -> Any:
            async for request in incoming:
                entered.set()
                yield request

        call = (await stage.method(streams(chat)))()
        await call.write(b"1")
        await entered.wait()
        assert await call.read() == b"1"
        await stage.servers[0].stop(None)
        assert await call.code() in (Code.UNAVAILABLE, Code.CANCELLED)

    play(scene)


def test_stopping_when_nothing_runs(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        method = await stage.method(unary(echo))
        assert await method(b"x") == b"x"
        (server,) = stage.servers
        await server.stop(None)
        await server.stop(None)
        await server.stop(1000)
        assert await server.wait_for_termination() is False
        assert (await raised(method(b""))).code() is Code.UNAVAILABLE

    play(scene)


def test_waiting_for_termination(play: Any) -> None:
    """wait_for_termination() returns whether the timeout has passed."""

    async def scene(stage: Stage) -> None:
        await stage.serve({})
        (server,) = stage.servers
        assert await server.wait_for_termination(0.01) is True
        waiting = asyncio.ensure_future(server.wait_for_termination(1000))
        await server.stop(None)
        assert await waiting is False

    play(scene)


def test_termination_can_be_waited_for(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        await stage.serve({})
        (server,) = stage.servers
        waiting = [asyncio.ensure_future(server.wait_for_termination()) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.01)
        assert not any(task.done() for task in waiting)
        if stage.ours:  # with grpc.aio's server that ends the others, too
            waiting.pop().cancel()
        await server.stop(None)
        await asyncio.gather(*waiting)

    play(scene)


def test_a_start_that_fails_leaves_nothing_to_wait_for(play_our_server: Any) -> None:
    async def scene(stage: Stage) -> None:
        server = stage.make()
        await server.stop(None)
        with pytest.raises(ValueError, match="stopped already"):
            await server.start()
        await server.stop(None)

    play_our_server(scene)


def test_stopping_before_the_start(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        await stage.make().stop(None)
        await stage.servers[0].stop(1)

    play(scene)


def test_a_server_starts_once(play_our_server: Any) -> None:
    async def scene(stage: Stage) -> None:
        await stage.serve({})
        with pytest.raises(pygo_plugin.PluginError):
            await stage.servers[0].start()
        await stage.servers[0].stop(None)
        with pytest.raises(pygo_plugin.PluginError):
            await stage.host.server().wait_for_termination()

    play_our_server(scene)


def test_a_port_that_is_taken(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        options = [("grpc.so_reuseport", 0)]
        first, second = (stage.host.server(options=options) for _ in range(2))
        port = first.add_insecure_port("127.0.0.1:0")
        assert port > 0
        with pytest.raises(RuntimeError, match="Failed to bind"):
            second.add_insecure_port(f"127.0.0.1:{port}")
        await first.stop(None)
        await second.stop(None)

    play(scene)


def test_several_addresses(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        server = stage.make()
        server.add_insecure_port(stage.target(1))
        generic = grpc.method_handlers_generic_handler("test.T", {"M": unary(echo)})
        server.add_generic_rpc_handlers((generic,))
        await server.start()
        for number in range(2):
            assert await stage.connect(number).unary_unary("/test.T/M")(b"x") == b"x"

    play(scene)


# ---- Many at once --------------------------------------------------------------------------------


def test_maximum_concurrent_rpcs(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        blocking = Blocking()
        call = await blocking.start(stage, maximum_concurrent_rpcs=1)
        for _ in range(3):
            error = await raised(blocking.method(b""))
            assert error.code() is Code.RESOURCE_EXHAUSTED
            assert "Concurrent RPC limit exceeded" in error.details()
        blocking.leave.set()
        assert await call == b"done"

    play(scene)


def test_refused_calls_leave_the_limit_alone(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered, leave = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def behavior(request: bytes, context: Any) -> bytes:
            entered.release()
            await leave.acquire()
            return b""

        method = await stage.method(unary(behavior), maximum_concurrent_rpcs=2)
        for _ in range(3):
            accepted = [method(b"") for _ in range(2)]
            for _ in accepted:
                await entered.acquire()
            for _ in range(4):
                assert (await raised(method(b""))).code() is Code.RESOURCE_EXHAUSTED
            for _ in accepted:
                leave.release()
            assert await asyncio.gather(*accepted) == [b"", b""]
            # The server counts a call until it is through with it, which is after its answer.
            while True:
                try:
                    leave.release()
                    await method(b"")
                    break
                except grpc.aio.AioRpcError:
                    await leave.acquire()
            await entered.acquire()

    play(scene)
