"""pygo_plugin.aio on loops, in processes and with plugins. tests/conformance has its calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import kv_pb2
import probe_pb2
import probe_pb2_grpc
import pytest
from aio_stage import DEADLINE, Probe, sums
from aio_stage import echo_request as echo

import pygo_plugin
from pygo_plugin import aio, rpc


@contextlib.asynccontextmanager
async def serving(path: Any) -> AsyncIterator[tuple[str, Probe]]:
    server, probe = aio.server(), Probe()
    probe_pb2_grpc.add_ProbeServicer_to_server(probe, server)
    target = f"unix:{path}/s"
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target, probe
    finally:
        await server.stop(None)


def run(test: Callable[[Any, Probe], Any], path: Any) -> None:
    """Run `test(stub, servicer)` on a loop of its own."""

    async def main() -> None:
        async with serving(path) as (target, probe), aio.insecure_channel(target) as channel:
            await asyncio.wait_for(test(probe_pb2_grpc.ProbeStub(channel), probe), DEADLINE)

    asyncio.run(main())


# ---- Many, and large ----------------------------------------------------------------------------


def test_nothing_leaks(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        async def some() -> None:
            for _ in range(50):
                await stub.Echo(echo())
                await stub.Sum(sums(1, 2))
                async for _ in stub.Count(probe_pb2.CountRequest(n=2)):
                    pass
                with contextlib.suppress(grpc.RpcError):
                    await stub.Fail(probe_pb2.FailRequest(code=5))
                call = stub.Hang(probe_pb2.HangRequest())
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call

        def objects() -> int:
            gc.collect()
            return len(gc.get_objects())

        await some()
        await stub.Echo(echo())
        before, descriptors = objects(), len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await some()
        await stub.Echo(echo())
        assert objects() - before < 300
        assert len(os.listdir("/proc/self/fd")) == descriptors

    run(test, socket_dir)


# ---- Loops --------------------------------------------------------------------------------------


async def lets_others_run(awaitable: Callable[[], Any]) -> bool:
    """Whether other tasks run while a coroutine awaits this in a loop, even if it raises."""
    others = asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)
    for _ in range(1000):
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await awaitable()
        if others.is_set():
            return True
    return False


def test_what_is_complete_at_once_lets_others_run(socket_dir: Any) -> None:
    """An await that completes at once still lets other tasks run, also after close or the end."""

    async def blocking(things: dict[str, Callable[[], Any]]) -> list[str]:
        return [name for name, thing in things.items() if not await lets_others_run(thing)]

    async def test(stub: Any, probe: Probe) -> None:
        call, failed = stub.Echo(echo()), stub.Fail(probe_pb2.FailRequest(code=5))
        cancelled = stub.Hang(probe_pb2.HangRequest())
        stream, chat, closed = stub.Count(probe_pb2.CountRequest(n=0)), stub.Chat(), stub.Chat()
        await asyncio.wait([asyncio.ensure_future(failed.code()), asyncio.ensure_future(call)])
        cancelled.cancel()
        assert await stream.read() is aio.EOF
        await chat.done_writing()
        assert await chat.code() is grpc.StatusCode.OK
        await closed.done_writing()
        things: dict[str, Callable[[], Any]] = {
            "write to a call that has ended": lambda: chat.write(echo()),
            "done_writing again": chat.done_writing,
            "write to a half-closed call": lambda: closed.write(echo()),
            "the end of a stream": stream.read,
        }
        for one in (call, failed, cancelled, stream, chat):
            for name in ("initial_metadata", "trailing_metadata", "code", "details"):
                things[f"{name} of {one!r}"] = getattr(one, name)
            things[f"connection of {one!r}"] = one.wait_for_connection
        for awaited in (call, failed, cancelled):
            things[f"{awaited!r}"] = lambda awaited=awaited: awaited  # type: ignore[misc]
        assert await blocking(things) == []

    async def channels(stub: Any, probe: Probe) -> None:
        channel = aio.insecure_channel(f"unix:{socket_dir}/s")
        await channel.channel_ready()
        idle = aio.server()
        assert (
            await blocking(
                {
                    "channel_ready": channel.channel_ready,
                    "another state": lambda: channel.wait_for_state_change(
                        grpc.ChannelConnectivity.IDLE
                    ),
                    "stop of a server that has not been started": lambda: idle.stop(None),
                }
            )
            == []
        )
        await channel.close()
        ready = grpc.ChannelConnectivity.READY
        assert (
            await blocking(
                {
                    "channel_ready": channel.channel_ready,
                    "state": lambda: channel.wait_for_state_change(ready),
                    "close": channel.close,
                }
            )
            == []
        )

    run(test, socket_dir)
    run(channels, socket_dir)


def test_calls_behind_interceptors_let_others_run(socket_dir: Any) -> None:
    class Answers(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            if request == b"refused":
                raise ValueError("refused")
            return request

    async def main() -> None:
        async with aio.insecure_channel(
            f"unix:{socket_dir}/s", interceptors=[Answers()]
        ) as channel:
            multi = channel.unary_unary("/test.T/M")
            for request in (b"answered", b"refused"):
                call = multi(request)
                await asyncio.wait([asyncio.ensure_future(call.code())])
                assert await lets_others_run(lambda: call)  # noqa: B023
                for name in ("code", "details", "initial_metadata", "trailing_metadata"):
                    assert await lets_others_run(getattr(call, name)), name

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_contexts_let_others_run(socket_dir: Any) -> None:
    """The methods of a context let other tasks run, also after the requests or the call."""
    found: dict[str, bool] = {}

    async def many(requests: Any, context: Any) -> None:
        while await context.read() is not aio.EOF:
            pass
        found["read"] = await lets_others_run(context.read)
        await context.send_initial_metadata(())
        again = lambda: context.send_initial_metadata(())  # noqa: E731
        found["send_initial_metadata"] = await lets_others_run(again)
        context.add_done_callback(lambda _: left.append(asyncio.ensure_future(late(context))))

    async def late(context: Any) -> None:
        found["write"] = await lets_others_run(lambda: context.write(b""))
        found["metadata"] = await lets_others_run(lambda: context.send_initial_metadata(()))

    left: list[Any] = []

    async def main() -> None:
        server = aio.server()
        handler = grpc.stream_stream_rpc_method_handler(many)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.T", {"M": handler}),)
        )
        server.add_insecure_port(f"unix:{socket_dir}/s")
        await server.start()
        async with aio.insecure_channel(f"unix:{socket_dir}/s") as channel:
            call = channel.stream_stream("/test.T/M")()
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        await server.stop(None)
        await asyncio.gather(*left)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert found == dict.fromkeys(("read", "send_initial_metadata", "write", "metadata"), True)


def test_a_started_client_lets_others_run(peers: Any, handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        options = {"handshake_config": handshake, "plugins": plugins}
        async with aio.Client(peers.plugin("python"), **options) as client:
            assert await lets_others_run(client.start)
            assert await lets_others_run(lambda: client.dispense("kv"))

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_asyncio_run_twice_and_descriptors(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        assert (await stub.Echo(echo())).payload == b"x"

    run(test, socket_dir)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run(test, socket_dir)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_two_loops_in_two_threads(socket_dir: Any) -> None:
    async def calls(channel: Any) -> None:
        stub = probe_pb2_grpc.ProbeStub(channel)
        for _ in range(100):
            assert (await stub.Echo(echo())).payload == b"x"

    async def main() -> None:
        async with (
            serving(socket_dir) as (target, _),
            aio.insecure_channel(target) as channel,
        ):
            other = asyncio.get_running_loop().run_in_executor(None, asyncio.run, calls(channel))
            await calls(channel)
            await other

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_uvloop(socket_dir: Any) -> None:
    import uvloop

    async def main() -> None:
        async with (
            serving(socket_dir) as (target, _),
            aio.insecure_channel(target) as channel,
        ):
            stub = probe_pb2_grpc.ProbeStub(channel)
            replies = await asyncio.gather(*(stub.Echo(echo(b"%d" % n)) for n in range(100)))
            assert len(replies) == 100
            assert (await stub.Sum(sums(1, 2))).total == 3

    for _ in range(2):
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
        finally:
            loop.close()


class Hanging(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    """Counts the calls that have arrived, and those that have ended."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.over = threading.Semaphore(0)

    def Hang(self, request: Any, context: Any) -> Any:
        ended = threading.Event()
        context.add_callback(ended.set)
        self.started.release()
        ended.wait(DEADLINE)
        self.over.release()
        return probe_pb2.HangReply()


def test_calls_end_with_their_loop(socket_dir: Any, eventually: Callable[..., Any]) -> None:
    servicer = Hanging()
    server = rpc.server(max_workers=4)
    probe_pb2_grpc.add_ProbeServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{socket_dir}/s")
    server.start()
    kept = []

    async def main() -> weakref.ref[Any]:
        channel = aio.insecure_channel(f"unix:{socket_dir}/s")
        stub = probe_pb2_grpc.ProbeStub(channel)
        forgotten = stub.Hang(probe_pb2.HangRequest())
        kept.append(stub.Hang(probe_pb2.HangRequest()))
        for _ in range(2):
            assert await asyncio.to_thread(servicer.started.acquire, timeout=DEADLINE)
        return weakref.ref(forgotten)

    forgotten = asyncio.run(main())
    for _ in range(2):
        assert servicer.over.acquire(timeout=DEADLINE)
    eventually(lambda: gc.collect() < 0 or forgotten() is None, "the end of the forgotten call")
    assert server.stop(None).wait(DEADLINE)


def in_subprocess(script: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


IN_FLIGHT = """
import asyncio, os, signal, sys
from pygo_plugin import aio
import probe_pb2, probe_pb2_grpc

class Probe(probe_pb2_grpc.ProbeServicer):
    async def Hang(self, request, context):
        started.set()
        await asyncio.Event().wait()

async def main():
    global started, keep
    started = asyncio.Event()
    server = aio.server()
    probe_pb2_grpc.add_ProbeServicer_to_server(Probe(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = aio.insecure_channel(f"127.0.0.1:{port}")
    stub = probe_pb2_grpc.ProbeStub(channel)
    call = stub.Hang(probe_pb2.HangRequest())
    stream = stub.Chat()
    await started.wait()
    keep = server, channel, call, stream
    if sys.argv[1] == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        await call

if sys.argv[1] == "close":
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
elif sys.argv[1] == "open":
    asyncio.new_event_loop().run_until_complete(main())
else:
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
print("end")
"""


@pytest.mark.isolated
@pytest.mark.parametrize("how", ["return", "interrupt", "close", "open"])
def test_ending_with_calls_in_flight(how: str) -> None:
    output = in_subprocess(IN_FLIGHT, how)
    assert "end\n" in output
    assert ("interrupted" in output) == (how == "interrupt")


def test_closing_a_channel_that_another_loop_calls_on(socket_dir: Any) -> None:
    """close() waits for the other loop's calls as long as for its own."""
    patience = 1000.0

    async def call_there(channel: Any, made: threading.Event) -> str:
        call = channel.unary_unary("/probe.Probe/Hang")(b"")
        made.set()
        try:
            await call
        except asyncio.CancelledError:
            return "cancelled"
        return "answered"

    async def main(patience: float | None, ends: bool) -> str:
        async with serving(socket_dir) as (target, probe):
            channel = aio.insecure_channel(target)
            loop = asyncio.get_running_loop()
            made = threading.Event()
            there = loop.run_in_executor(None, lambda: asyncio.run(call_there(channel, made)))
            assert await loop.run_in_executor(None, made.wait, DEADLINE)
            await probe.hanging.wait()
            closing = asyncio.ensure_future(channel.close(patience))
            if ends:
                await asyncio.sleep(0)
                (call,) = channel._core._async_calls()
                call._loop.call_soon_threadsafe(call.cancel)
                del call
            await asyncio.wait_for(closing, DEADLINE)
            return await asyncio.wait_for(there, DEADLINE)

    assert asyncio.run(main(patience, ends=True)) == "cancelled"
    assert asyncio.run(main(None, ends=False)) == "cancelled"


FORK = """
import asyncio, os
from pygo_plugin import ForkedError, aio

async def main():
    channel = aio.insecure_channel("unix:/nowhere")
    call = channel.unary_unary("/a/b")
    pending = call(b"", wait_for_ready=True)
    pid = os.fork()
    if pid == 0:
        try:
            call(b"")
        except ForkedError:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    pending.cancel()
    print(os.WEXITSTATUS(status))

asyncio.run(main())
"""


@pytest.mark.isolated
def test_a_forked_child_is_refused() -> None:
    assert in_subprocess(FORK).endswith("7\n")


def test_importing_the_package_leaves_asyncio_alone() -> None:
    script = "import sys, pygo_plugin; sys.exit('asyncio' in sys.modules)"
    in_subprocess(script)


def test_importing_aio_leaves_grpcio_alone() -> None:
    in_subprocess("import sys, pygo_plugin.aio; sys.exit('grpc' in sys.modules)")


def test_names_of_grpc_aio() -> None:
    assert aio.Metadata is grpc.aio.Metadata
    assert aio.EOF is grpc.aio.EOF
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = aio.nothing_like_it


# ---- Plugins ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leftovers")
def test_the_channel_of_a_plugin_that_crashed(
    peers: Any, handshake: Any, plugins: Any, eventually: Any
) -> None:
    async def main() -> None:
        command = peers.plugin("python")
        async with aio.Client(command, handshake_config=handshake, plugins=plugins) as client:
            channel = client.channel
            os.kill(client.pid, signal.SIGKILL)
            eventually(client.exited, "the plugin's end")
            assert client.channel is channel
        with pytest.raises(pygo_plugin.ClosedError):
            _ = client.channel

    asyncio.run(main())


@pytest.mark.usefixtures("no_leftovers")
@pytest.mark.parametrize("kind", ["python", "aio", pytest.param("go", marks=pytest.mark.go)])
def test_client(kind: str, peers: Any, handshake: Any, plugins: Any) -> None:
    command = peers.plugin("python", "--server", "aio") if kind == "aio" else peers.plugin(kind)

    async def main() -> aio.Client:
        async with aio.Client(command, handshake_config=handshake, plugins=plugins) as client:
            assert await client.ping() == ""
            channel, kv = await client.dispense("kv")
            await kv.Put(kv_pb2.PutRequest(key="k", value=b"v"))
            assert (await kv.Get(kv_pb2.GetRequest(key="k"))).value == b"v"
            await channel.close()
            _, probe = await client.dispense(plugins["probe"])
            replies = probe.Count(probe_pb2.CountRequest(n=3))
            assert [reply.number async for reply in replies] == [0, 1, 2]
            assert (await probe.Sum(sums(1, 2))).total == 3
            with pytest.raises(pygo_plugin.ConfigError):
                await client.dispense("nothing")
            assert client.channel is client.channel
            assert client.conn_endpoint()
            assert client.reattach_config().valid
            assert not client.exited()
        return client

    client = asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert client.exit_status == 0
    assert client.exited()


@pytest.mark.usefixtures("no_leftovers")
def test_cancelling_the_start_kills_the_plugin(peers: Any, handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        client = aio.Client(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            handshake_config=handshake,
            plugins=plugins,
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.start(), 0.3)
        assert client.exited()
        with pytest.raises(pygo_plugin.ClosedError):
            await client.start()
        with pytest.raises(pygo_plugin.ClosedError):
            client.new_channel()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.mark.usefixtures("no_leftovers")
def test_cancelling_the_start_twice_is_no_news(
    handshake: Any, plugins: Any, eventually: Any
) -> None:
    reported: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: reported.append(context)
        )
        client = aio.Client(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            handshake_config=handshake,
            plugins=plugins,
        )
        start = asyncio.ensure_future(client.start())
        await asyncio.to_thread(eventually, lambda: client.pid >= 0, "the process")
        # It may be over as soon as it is cancelled.
        (starting,) = asyncio.all_tasks() - {asyncio.current_task(), start}
        start.cancel()
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await asyncio.wait((starting,))
        del starting, start
        await client.kill()
        gc.collect()

    asyncio.run(main())
    assert reported == []


def test_a_start_that_fails(handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        client = aio.Client(["false"], handshake_config=handshake, plugins=plugins)
        with pytest.raises(pygo_plugin.ExitedEarlyError):
            await client.start()
        assert "exited" in await client.ping()
        await client.kill()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.mark.usefixtures("no_leftovers")
def test_the_loop_runs_while_a_plugin_starts(
    peers: Any, handshake: Any, plugins: Any, socket_dir: Any
) -> None:
    async def main() -> None:
        client = aio.Client(peers.plugin("python"), handshake_config=handshake, plugins=plugins)
        async with (
            serving(socket_dir) as (target, _),
            aio.insecure_channel(target) as channel,
        ):
            stub = probe_pb2_grpc.ProbeStub(channel)
            start = asyncio.ensure_future(client.start())
            turns = 0
            while not start.done():
                await stub.Echo(echo())
                turns += 1
            assert turns > 3
        assert start.result().string()
        await client.kill()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def at_once(coroutine: Any) -> bool:
    """Whether the coroutine ends without waiting. If it does not, it is closed."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    coroutine.close()
    return False


async def until_still(count: Callable[[], int], pause: Callable[[], Any]) -> int:
    """The count once it no longer changes while other calls are served."""
    seen = -1
    while seen != count():
        seen = count()
        for _ in range(100):
            await pause()
    return seen


def test_requests_are_written_at_once(tmp_path: Any) -> None:
    async def scene() -> None:
        async with serving(tmp_path) as (target, _), aio.insecure_channel(target) as channel:
            call = probe_pb2_grpc.ProbeStub(channel).Sum()
            request = probe_pb2.SumRequest(payload=b"x")
            assert [at_once(call.write(request)) for _ in range(20)] == [True] * 20
            await call.done_writing()
            assert (await call).count == 20

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))


def test_requests_wait_when_the_server_does_not_read(tmp_path: Any) -> None:
    async def scene() -> None:
        server, go_on = aio.server(), asyncio.Event()

        async def slow(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            await go_on.wait()
            return b"%d" % len([request async for request in incoming])

        async def echoed(request: bytes, context: Any) -> bytes:
            return request

        handlers = {
            "Slow": rpc.stream_unary_rpc_method_handler(slow),
            "Echo": rpc.unary_unary_rpc_method_handler(echoed),
        }
        server.add_generic_rpc_handlers((rpc.method_handlers_generic_handler("t.T", handlers),))
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        async with aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            call = channel.stream_unary("/t.T/Slow")()
            written = 0

            async def write() -> None:
                nonlocal written
                for _ in range(300):
                    await call.write(bytes(100_000))
                    written += 1
                await call.done_writing()

            writing = asyncio.ensure_future(write())
            pause = channel.unary_unary("/t.T/Echo")
            assert await until_still(lambda: written, lambda: pause(b"")) < 150
            assert not writing.done()
            go_on.set()
            assert await call == b"300"
            await writing
        await server.stop(None)

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))


def test_replies_are_written_at_once_until_flow_control_blocks(tmp_path: Any) -> None:
    async def scene() -> None:
        server, found, written = aio.server(), [], 0

        async def replies(request: bytes, context: Any) -> None:
            nonlocal written
            found.extend(at_once(context.write(b"x")) for _ in range(20))
            for _ in range(300):
                await context.write(bytes(100_000))
                written += 1

        async def echoed(request: bytes, context: Any) -> bytes:
            return request

        handlers = {
            "Replies": rpc.unary_stream_rpc_method_handler(replies),
            "Echo": rpc.unary_unary_rpc_method_handler(echoed),
        }
        server.add_generic_rpc_handlers((rpc.method_handlers_generic_handler("t.T", handlers),))
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        async with aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            call = channel.unary_stream("/t.T/Replies")(b"")
            assert await call.read() == b"x"
            pause = channel.unary_unary("/t.T/Echo")
            assert await until_still(lambda: written, lambda: pause(b"")) < 150
            assert found == [True] * 20
            left = 0
            while await call.read() is not grpc.aio.EOF:
                left += 1
            assert left == 319
        await server.stop(None)

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))
