"""How calls over brokered connections end when the other side goes.

The connection between host and plugin ends first here, and the brokered one goes on, so that the
broker alone can end the calls. When a process dies, either end may be noticed first.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from broker_plugin import Test
from brokered import OPTIONS, PLUGIN, TIMEOUT, accept_hanging, each_connection, launching

from pygo_plugin import Client, ClosedError, RpcError, aio

SHUTDOWN = 4

ENDED = "the connection between host and plugin has ended"
KILLED = "was killed by signal 9 (SIGKILL)"

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture
def launch() -> Iterator[Callable[..., Client]]:
    with launching() as launch:
        yield launch


@pytest.fixture
def requests() -> Iterator[Iterator[Any]]:
    """Requests of a stream, none of which comes before the test ends."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    yield iter(messages.get, None)
    messages.put(None)


def unavailable(call: Callable[[], Any]) -> str:
    """The details of the call, which ends with UNAVAILABLE."""
    with pytest.raises(RpcError) as caught:
        call()
    assert caught.value.code().name == "UNAVAILABLE", caught.value
    details: str = caught.value.details()
    return details


@each_connection
def test_the_plugin_goes(launch: Any, requests: Any, eventually: Any, how: Any) -> None:
    import probe_pb2 as pb
    import probe_pb2_grpc

    client = launch("--linger", **how)
    broker, test = client.dispense("test")
    never_used = broker.dial(int(test.ServeAll(b"")))
    channel = broker.dial(int(test.ServeAll(b"")))
    probe = probe_pb2_grpc.ProbeStub(channel)
    hanging = probe.Hang.future(pb.HangRequest())
    replies = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
    chat = probe.Chat(requests)
    eventually(
        lambda: probe.Cancelled(pb.CancelledRequest(), timeout=TIMEOUT).started == 1, "the call"
    )
    with pytest.raises(RpcError):
        test.Abandon(b"", timeout=TIMEOUT)

    for call in (lambda: hanging.result(TIMEOUT), lambda: next(replies), lambda: next(chat)):
        assert ENDED in unavailable(call)
    assert channel.state() == SHUTDOWN
    os.kill(client.pid, signal.SIGKILL)
    eventually(client.exited, "the plugin's end")
    request = pb.EchoRequest()
    for later in (
        lambda: probe.Echo(request),
        lambda: probe.Echo(request, wait_for_ready=True),
        lambda: probe.Echo.future(request).result(TIMEOUT),
        lambda: next(probe.Count(pb.CountRequest(n=1))),
        lambda: probe.Sum(iter([pb.SumRequest(value=1)])),
        lambda: Test(never_used).Echo(b"x", wait_for_ready=True),
    ):
        assert KILLED in unavailable(later)
    client.kill()
    with pytest.raises(ClosedError):
        probe.Echo(request)


@each_connection
def test_the_plugin_of_an_asyncio_program_goes(eventually: Any, how: Any) -> None:
    import probe_pb2 as pb
    import probe_pb2_grpc

    async def unavailable(start: Callable[[], Any]) -> str:
        with pytest.raises(RpcError) as caught:
            await asyncio.wait_for(start(), TIMEOUT)
        assert caught.value.code().name == "UNAVAILABLE", caught.value
        details: str = caught.value.details()
        return details

    async def main() -> None:
        async with aio.Client([*PLUGIN, "--linger"], **OPTIONS, **how) as client:
            broker, test = await client.dispense("test")
            channel = await broker.dial(int(await test.ServeAll(b"")))
            probe: Any = probe_pb2_grpc.ProbeStub(channel)
            hanging = probe.Hang(pb.HangRequest())
            replies = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
            chat = probe.Chat()
            while not (await probe.Cancelled(pb.CancelledRequest(), timeout=TIMEOUT)).started:
                pass
            with pytest.raises(RpcError):
                await test.Abandon(b"", timeout=TIMEOUT)
            for start in (lambda: hanging, replies.read, chat.read):
                assert ENDED in await unavailable(start)
            os.kill(client.pid, signal.SIGKILL)
            await asyncio.to_thread(eventually, client.exited, "the plugin's end")
            request = pb.EchoRequest()
            assert KILLED in await unavailable(lambda: probe.Echo(request))
            assert KILLED in await unavailable(lambda: probe.Echo(request, wait_for_ready=True))
            assert KILLED in await unavailable(lambda: probe.Count(pb.CountRequest(n=1)).read())

    asyncio.run(main())


@each_connection
@pytest.mark.parametrize("arguments", [(), ("--aio",)], ids=["threads", "asyncio"])
def test_the_host_goes(launch: Any, arguments: tuple[str, ...], how: Any) -> None:
    """As its plugin sees it, though here the host ends no more than the broker's stream."""
    client = launch(*arguments, **how)
    broker, test = client.dispense("test")
    server, entered, ended = accept_hanging(broker)
    ends = test.DescribeEnds.future(b"%d" % server.id)
    assert entered.wait(TIMEOUT)
    broker._core.close()
    for line in ends.result(TIMEOUT).decode().split("\n"):
        assert line == f"StatusCode.UNAVAILABLE {ENDED}"
    assert ended.wait(TIMEOUT)


@each_connection
def test_a_connection_that_is_made_while_the_plugin_goes(launch: Any, how: Any) -> None:
    broker, test = launch(**how).dispense("test")
    with pytest.MonkeyPatch.context() as patch:
        opened = broker._opened

        def disconnect_and_open(*arguments: Any) -> Any:
            broker._disconnect_all()
            return opened(*arguments)

        patch.setattr(broker, "_opened", disconnect_and_open)
        channel = broker.dial(int(test.Serve(b"")))
    assert ENDED in unavailable(lambda: Test(channel).Echo(b"x", wait_for_ready=True))
    again = broker.stub(int(test.Serve(b"")), Test)
    assert again.Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
