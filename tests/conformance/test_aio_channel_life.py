"""The life of an asyncio program's channel: states, readiness, close, another server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import probe_pb2
import probe_pb2_grpc
import pytest
from aio_stage import Code, Stage, echo, raised
from stage import streams, unary

import pygo_plugin

State = grpc.ChannelConnectivity

# After a failure, try to connect again before a second has passed.
SOON = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]


def test_states(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": unary(echo)})
        assert isinstance(channel, grpc.aio.Channel)
        assert channel.get_state() is State.IDLE
        state = channel.get_state(try_to_connect=True)
        while state is not State.READY:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        await channel.channel_ready()
        await stage.servers[0].stop(None)
        await channel.wait_for_state_change(State.READY)
        assert channel.get_state() is not State.READY

    play(scene)


def test_a_channel_that_never_gets_ready(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = stage.connect()
        state = channel.get_state(try_to_connect=True)
        while state is not State.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        ready = asyncio.ensure_future(channel.channel_ready())
        await asyncio.wait((ready,), timeout=0.05)
        assert not ready.done()
        ready.cancel()
        await asyncio.wait((ready,))

    play(scene)


def test_waiting_for_ready(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        call = stage.connect(options=SOON).unary_unary("/test.T/M")
        assert (await raised(call(b"", wait_for_ready=False))).code() is Code.UNAVAILABLE
        error = await raised(call(b"", wait_for_ready=True, timeout=0.1))
        assert error.code() is Code.DEADLINE_EXCEEDED
        waiting = call(b"x", wait_for_ready=True)
        assert not waiting.done()
        await stage.serve({"M": unary(echo)})
        assert await waiting == b"x"

    play(scene)


def test_another_server_at_the_same_address(play: Any) -> None:
    """The channel reconnects by itself."""

    async def scene(stage: Stage) -> None:
        await stage.serve({"M": unary(echo)})
        call = stage.connect(options=SOON).unary_unary("/test.T/M")
        assert await call(b"1") == b"1"
        await stage.servers.pop().stop(None)
        assert (await raised(call(b""))).code() is Code.UNAVAILABLE
        await stage.serve({"M": unary(echo)})
        assert await call(b"2", wait_for_ready=True) == b"2"

    play(scene)


# ---- Close ---------------------------------------------------------------------------------------


def test_closing_the_channel(play_our_channel: Any) -> None:
    """Our errors are ClosedErrors as well as grpc.aio's UsageErrors."""

    async def scene(stage: Stage) -> None:
        probe = await stage.serve_probe()
        channel = stage.connect()
        stub = probe_pb2_grpc.ProbeStub(channel)
        await channel.channel_ready()
        assert channel.get_state() is State.READY
        change = asyncio.ensure_future(channel.wait_for_state_change(State.READY))
        hanging = stub.Hang(probe_pb2.HangRequest())
        await probe.hanging.wait()
        await channel.close(0.05)
        await channel.close()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await change
        with pytest.raises(pygo_plugin.ClosedError):
            stub.Echo(probe_pb2.EchoRequest())
        with pytest.raises(pygo_plugin.ClosedError):
            await channel.channel_ready()

    play_our_channel(scene)


@pytest.mark.parametrize("grace", [None, 0.05])
def test_close_cancels_calls(play: Any, grace: float | None) -> None:
    async def scene(stage: Stage) -> None:
        entered, over = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def wait() -> None:
            entered.release()
            try:
                await asyncio.Event().wait()
            finally:
                over.release()

        async def one(request: bytes, context: Any) -> bytes:
            await wait()
            return b""

        async def many(incoming: Any, context: Any) -> Any:
            await wait()
            yield b""

        channel = await stage.serve({"One": unary(one), "Many": streams(many)})
        calls = [
            channel.unary_unary("/test.T/One")(b""),
            channel.stream_stream("/test.T/Many")(),
        ]
        for _ in calls:
            await entered.acquire()
        await channel.close(grace)
        for call in calls:
            assert call.cancelled()
            assert await call.code() is Code.CANCELLED
        for _ in calls:
            await over.acquire()
        assert channel.get_state() is State.SHUTDOWN

    play(scene)


def test_close_with_grace_lets_calls_end(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def behavior(request: bytes, context: Any) -> bytes:
            entered.set()
            await leave.wait()
            return b"done"

        channel = await stage.serve({"M": unary(behavior)})
        call = channel.unary_unary("/test.T/M")(b"")
        await entered.wait()
        closing = asyncio.ensure_future(channel.close(1000))
        await asyncio.wait((closing,), timeout=0.05)
        assert not closing.done()
        leave.set()
        assert await call == b"done"
        await closing

    play(scene)


def test_calls_on_a_closed_channel(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": unary(echo)})
        call = channel.unary_unary("/test.T/M")
        assert await call(b"x") == b"x"
        await channel.close()
        await channel.close()
        with pytest.raises(grpc.aio.UsageError) as caught:
            await call(b"x")
        assert isinstance(caught.value, pygo_plugin.ClosedError) is stage.our_channel

    play(scene)


def test_waiting_for_a_closed_channel(play: Any) -> None:
    """Waiting raises for each state, so that a program that waits in a loop ends."""

    async def scene(stage: Stage) -> None:
        channel = await stage.serve({"M": unary(echo)})
        await channel.channel_ready()
        await channel.close()
        for last in State:
            with pytest.raises(grpc.aio.UsageError) as caught:
                await channel.wait_for_state_change(last)
            assert isinstance(caught.value, pygo_plugin.ClosedError) is stage.our_channel
        with pytest.raises(grpc.aio.UsageError):
            await channel.channel_ready()

    play(scene)


def test_a_channel_closes_at_the_end_of_its_block(play: Any) -> None:
    async def scene(stage: Stage) -> None:
        await stage.serve({"M": unary(echo)})
        async with stage.client.insecure_channel(stage.target()) as channel:
            assert await channel.unary_unary("/test.T/M")(b"x") == b"x"
        assert channel.get_state() is State.SHUTDOWN

    play(scene)
