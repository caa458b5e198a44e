"""The life of a channel: states, readiness, close."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from stage import (
    DEADLINE,
    Code,
    Lost,
    Stage,
    States,
    echo,
    failure,
    raised,
    replies,
    requests,
    serving,
    streams,
    unary,
)

from pygo_plugin import rpc


def test_channel_is_a_grpc_channel(channel: Any) -> None:
    assert isinstance(channel, grpc.Channel)
    assert issubclass(type(channel), grpc.Channel)


def test_calls_on_a_closed_channel_are_value_errors(client: Any, probe_target: Any) -> None:
    channel = client.insecure_channel(probe_target("ours"))
    call = channel.unary_unary("/probe.Probe/Echo")
    call(b"", timeout=DEADLINE)
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        call(b"")


def test_subscribe(channel: Any) -> None:
    states = States()
    channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    channel.unsubscribe(states)
    channel.unsubscribe(states)
    channel.unsubscribe(print)
    again = States()
    channel.subscribe(again)
    assert again.wait_for(grpc.ChannelConnectivity.READY)
    channel.unsubscribe(again)


def test_subscribers_hear_of_the_end(our_channel: Any) -> None:
    states = States()
    our_channel.subscribe(states)
    our_channel.close()
    assert states.wait_for(grpc.ChannelConnectivity.SHUTDOWN)


def test_subscriber_that_raises(our_channel: Any, lost: Lost) -> None:
    states = States()

    def fail(state: Any) -> None:
        raise LookupError(state)

    our_channel.subscribe(fail, try_to_connect=True)
    our_channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    our_channel.unsubscribe(fail)
    our_channel.unsubscribe(states)
    assert {type(error) for error in lost} == {LookupError}


def test_subscribing_does_not_keep_a_channel(probe_target: Any, eventually: Any) -> None:
    channel = rpc.insecure_channel(probe_target("ours"))
    states = States()
    channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    gone = weakref.ref(channel)
    del channel
    gc.collect()
    eventually(lambda: gone() is None, "the channel's end")


def test_channel_ready_future(channel: Any) -> None:
    grpc.channel_ready_future(channel).result(DEADLINE)


def test_channel_that_never_gets_ready(client: Any, socket_dir: Any) -> None:
    with client.insecure_channel(f"unix:{socket_dir}/missing") as channel:
        future = grpc.channel_ready_future(channel)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(0.2)
        assert future.cancel() is True


def test_wait_for_ready(probe: Any, pb: Any) -> None:
    for choice in (None, True, False):
        reply = probe.Echo(pb.EchoRequest(payload=b"x"), wait_for_ready=choice, timeout=DEADLINE)
        assert reply.payload == b"x"


def test_wait_for_ready_without_a_listener(client: Any, socket_dir: Any) -> None:
    with client.insecure_channel(f"unix:{socket_dir}/missing") as channel:
        call = channel.unary_unary("/x/Y")
        assert raised(lambda: call(b"")).code() is Code.UNAVAILABLE
        assert raised(lambda: call(b"", wait_for_ready=False)).code() is Code.UNAVAILABLE
        error = raised(lambda: call(b"", wait_for_ready=True, timeout=0.2))
        assert error.code() is Code.DEADLINE_EXCEEDED


def test_wait_for_ready_until_there_is_a_server(client: Any, host: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/late"
    with client.insecure_channel(address) as channel:
        assert failure(channel, wait_for_ready=False).code() is Code.UNAVAILABLE
        future = channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE, wait_for_ready=True)
        assert not future.done()
        with serving(host, address=address):
            assert future.result(DEADLINE) == b"x"


# ---- The end, and a new beginning ----------------------------------------------------------------


def test_close_with_calls_in_flight(stage: Stage) -> None:
    """The calls have all arities, and other threads wait for them."""
    entered, over = threading.Semaphore(0), threading.Semaphore(0)

    def wait(request: Any, context: Any) -> Any:
        ended = threading.Event()
        context.add_callback(ended.set)
        entered.release()
        assert ended.wait(DEADLINE)
        over.release()
        return b""

    def wait_in_stream(request: Any, context: Any) -> Iterator[bytes]:
        yield wait(request, context)

    channel = stage.serve({
        "A": unary(wait), "B": replies(wait_in_stream), "C": requests(wait),
        "D": streams(wait_in_stream),
    })  # fmt: skip
    release = threading.Event()

    def outgoing() -> Iterator[bytes]:
        yield b""
        release.wait(DEADLINE)

    codes: list[Any] = []
    blocking = channel.unary_unary("/test.T/A")
    thread = threading.Thread(target=lambda: codes.append(raised(lambda: blocking(b"")).code()))
    thread.start()
    future = channel.unary_unary("/test.T/A").future(b"")
    total = channel.stream_unary("/test.T/C").future(outgoing())
    found = channel.unary_stream("/test.T/B")(b"")
    chat = channel.stream_stream("/test.T/D")(outgoing())
    for _ in range(5):
        assert entered.acquire(timeout=DEADLINE)
    channel.close()
    thread.join(DEADLINE)
    assert codes == [Code.CANCELLED]
    for call in (future, total, found, chat):
        assert call.code() is Code.CANCELLED
        assert call.is_active() is False
    for stream in (found, chat):
        assert raised(lambda stream=stream: next(stream)).code() is Code.CANCELLED
    for _ in range(5):
        assert over.acquire(timeout=DEADLINE)
    release.set()


def test_close_twice_and_in_a_block(stage: Stage) -> None:
    with stage.serve({"M": unary(echo)}) as channel:
        call = channel.unary_unary("/test.T/M")
        assert call(b"x", timeout=DEADLINE) == b"x"
        channel.close()
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        call(b"")


def test_another_server_at_the_same_address(stage: Stage) -> None:
    """The channel reconnects by itself."""
    soon = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
    stage.serve({"M": unary(echo)})
    channel = stage.connect(options=soon)
    call = channel.unary_unary("/test.T/M")
    for _ in range(3):
        assert call(b"x", timeout=DEADLINE, wait_for_ready=True) == b"x"
        assert stage.servers.pop().stop(None).wait(DEADLINE)
        assert raised(lambda: call(b"", timeout=DEADLINE)).code() is Code.UNAVAILABLE
        stage.serve({"M": unary(echo)})
    assert call(b"x", timeout=DEADLINE, wait_for_ready=True) == b"x"


def test_states_follow_the_server(stage: Stage) -> None:
    stage.serve({"M": unary(echo)})
    channel = stage.connect()
    states = States()
    channel.subscribe(states, try_to_connect=True)
    assert states.wait_for(grpc.ChannelConnectivity.READY)
    assert states[0] is grpc.ChannelConnectivity.IDLE
    assert grpc.ChannelConnectivity.SHUTDOWN not in states
    del states[:]
    assert stage.servers.pop().stop(None).wait(DEADLINE)
    assert states.wait_for(grpc.ChannelConnectivity.IDLE)
    channel.unsubscribe(states)


def test_several_ready_futures(our_channel: Any) -> None:
    """Our channel only: grpcio's thread for states raises if it is closed soon after."""
    channel = our_channel
    called_with: list[Any] = []
    done = threading.Semaphore(0)
    ready = [grpc.channel_ready_future(channel) for _ in range(3)]
    for future in ready:
        future.add_done_callback(lambda who: (called_with.append(who), done.release()))
    for _ in ready:
        assert done.acquire(timeout=DEADLINE)
    for future in ready:
        assert future.result(DEADLINE) is None
        assert future.done()
        assert not future.cancelled()
        assert not future.running()
        assert future.cancel() is False
    assert set(called_with) == set(ready)
