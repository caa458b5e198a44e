"""pygo_plugin.aio against itself and against grpc.aio: channels, calls, servers, loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import kv_pb2
import probe_pb2
import probe_pb2_grpc
import pytest

import pygo_plugin
from pygo_plugin import aio

DEADLINE = 20.0
OURS, GRPCIO = "ours", "grpc.aio"


class Probe(probe_pb2_grpc.ProbeServicer):  # type: ignore[misc]
    """The probe service for asyncio, as far as these tests use it."""

    def __init__(self) -> None:
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.written = 0
        self.read = 0

    async def Echo(self, request: Any, context: Any) -> Any:
        wanted = [
            (k[13:], v) for k, v in context.invocation_metadata() if k[:13] == "want-initial-"
        ]
        if wanted:
            await context.send_initial_metadata(wanted)
        context.set_trailing_metadata((("trailing", "yes"),))
        return probe_pb2.EchoReply(payload=request.payload)

    async def Fail(self, request: Any, context: Any) -> Any:
        if request.code == 2:
            raise ValueError("as asked")
        await context.abort(_code(request.code), request.details)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number, payload=bytes(request.size))
            self.written += 1
        if request.fail_code:
            await context.abort(_code(request.fail_code), request.fail_details)

    async def Sum(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        total = count = 0
        async for request in request_iterator:
            total, count = total + request.value, count + 1
            self.read = count
            if request.value < 0:
                await asyncio.Event().wait()
        return probe_pb2.SumReply(total=total, count=count)

    async def Chat(self, request_iterator: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)

    async def Hang(self, request: Any, context: Any) -> Any:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def Environ(self, request: Any, context: Any) -> Any:  # on a worker
        return probe_pb2.EnvironReply(pid=threading.get_native_id())


def _code(number: int) -> Any:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


@contextlib.asynccontextmanager
async def serving(kind: str, path: Any, **options: Any) -> AsyncIterator[tuple[str, Probe]]:
    server = aio.server(**options) if kind == OURS else grpc.aio.server(**options)
    probe = Probe()
    probe_pb2_grpc.add_ProbeServicer_to_server(probe, server)
    target = f"unix:{path}/{kind}"
    server.add_insecure_port(target)
    await server.start()
    try:
        yield target, probe
    finally:
        await server.stop(None)


def channel_to(kind: str, target: str, **options: Any) -> Any:
    make = aio.insecure_channel if kind == OURS else grpc.aio.insecure_channel
    return make(target, **options)


Test = Callable[[Any, Probe], Any]


def run(test: Test, path: Any, host: str = OURS, plugin: str = OURS, **options: Any) -> None:
    """Run `test(stub, servicer)` on a loop of its own."""

    async def main() -> None:
        async with (
            serving(plugin, path, **options) as (target, probe),
            channel_to(host, target) as channel,
        ):
            await asyncio.wait_for(test(probe_pb2_grpc.ProbeStub(channel), probe), DEADLINE)

    asyncio.run(main())


@pytest.fixture(
    params=[(OURS, OURS), (OURS, GRPCIO), (GRPCIO, OURS)], ids=lambda pair: "-".join(pair)
)
def run_pair(request: pytest.FixtureRequest, socket_dir: Any) -> Callable[[Test], None]:
    host, plugin = request.param
    return lambda test: run(test, socket_dir, host, plugin)


def echo(payload: bytes = b"x") -> Any:
    return probe_pb2.EchoRequest(payload=payload)


async def sums(*values: int) -> AsyncIterator[Any]:
    for value in values:
        yield probe_pb2.SumRequest(value=value)


# ---- Both sides, ours and grpcio's --------------------------------------------------------------


def test_all_arities(run_pair: Callable[[Test], None]) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        assert (await stub.Echo(echo(b"hello"))).payload == b"hello"
        replies = stub.Count(probe_pb2.CountRequest(n=3))
        assert [reply.number async for reply in replies] == [0, 1, 2]
        assert await replies.code() is grpc.StatusCode.OK
        assert (await stub.Sum(sums(1, 2, 3))).total == 6
        assert (await stub.Sum([probe_pb2.SumRequest(value=4)])).total == 4
        messages = [probe_pb2.ChatMessage(payload=b"%d" % n) for n in range(3)]
        assert [reply async for reply in stub.Chat(messages)] == messages

    run_pair(test)


def test_reading_and_writing(run_pair: Callable[[Test], None]) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        chat = stub.Chat()
        await chat.wait_for_connection()
        for n in range(3):
            await chat.write(probe_pb2.ChatMessage(payload=b"%d" % n))
            assert (await chat.read()).payload == b"%d" % n
        await chat.done_writing()
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await chat.write(probe_pb2.ChatMessage())

        call = stub.Sum()
        await call.write(probe_pb2.SumRequest(value=5))
        await call.done_writing()
        assert (await call).total == 5

        replies = stub.Count(probe_pb2.CountRequest(n=1))
        assert (await replies.read()).number == 0
        assert await replies.read() is grpc.aio.EOF

    run_pair(test)


def test_failures_and_metadata(run_pair: Callable[[Test], None]) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Fail(probe_pb2.FailRequest(code=5, details="nothing"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "nothing"
        with pytest.raises(grpc.RpcError):
            async for _ in stub.Count(probe_pb2.CountRequest(n=1, fail_code=9)):
                pass
        call = stub.Echo(echo(), metadata=(("want-initial-a", "b"), ("bin-bin", b"\xff")))
        assert (await call.initial_metadata())["a"] == "b"
        assert (await call.trailing_metadata())["trailing"] == "yes"
        assert await call.code() is grpc.StatusCode.OK
        assert (await call).payload == b"x"
        assert call.done()
        assert not call.cancel()

    run_pair(test)


def test_cancelling(run_pair: Callable[[Test], None]) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        call = stub.Hang(probe_pb2.HangRequest())
        ended: list[Any] = []
        call.add_done_callback(ended.append)
        await probe.hanging.wait()
        assert not call.done()
        assert call.cancel()
        assert not call.cancel()
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
        assert ended == [call]
        await probe.cancelled.wait()

        probe.hanging.clear()
        probe.cancelled.clear()
        task = asyncio.ensure_future(stub.Hang(probe_pb2.HangRequest()))
        await probe.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await probe.cancelled.wait()

        replies = stub.Count(probe_pb2.CountRequest(n=100_000, size=1000))
        assert (await replies.read()).number == 0
        replies.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replies.read()

    run_pair(test)


def test_deadlines(run_pair: Callable[[Test], None]) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        call = stub.Hang(probe_pb2.HangRequest(), timeout=0.2)
        assert 0 < call.time_remaining() <= 0.2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await probe.cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Chat(timeout=0.1).read()

    run_pair(test)


# ---- Calls --------------------------------------------------------------------------------------


def test_errors_are_of_all_kinds(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        try:
            await stub.Fail(probe_pb2.FailRequest(code=7, details="no"))
        except pygo_plugin.RpcError as error:
            caught = error
        assert isinstance(caught, (grpc.RpcError, grpc.aio.AioRpcError))
        assert isinstance(caught, aio.AioRpcError)
        assert "PERMISSION_DENIED" in str(caught)
        thawed = pickle.loads(pickle.dumps(caught))
        assert (thawed.code(), thawed.details()) == (caught.code(), "no")
        call = stub.Echo(echo())
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        await call

    run(test, socket_dir)


def test_mixing_styles_is_refused(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        call = stub.Chat(iter(()))
        with pytest.raises(aio.UsageError):
            await call.write(probe_pb2.ChatMessage())
        call = stub.Count(probe_pb2.CountRequest(n=5))
        async for _ in call:
            break
        with pytest.raises(aio.UsageError):
            await call.read()

    run(test, socket_dir)


def test_a_failing_request_iterator_ends_the_call(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        async def failing() -> AsyncIterator[Any]:
            yield probe_pb2.SumRequest(value=1)
            raise ValueError("no more")

        reported: list[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, reported.append
        try:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Sum(failing())
        finally:
            sys.unraisablehook = hook
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert isinstance(reported[0].exc_value, ValueError)

    run(test, socket_dir)


def test_dropping_a_stream_cancels_it(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        call = stub.Sum(sums(1, -1))
        while probe.read < 2:
            await stub.Echo(echo())
        ended = call._ended
        del call
        gc.collect()
        await ended

    run(test, socket_dir)


def test_a_unary_call_goes_on_without_its_object(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        stub.Hang(probe_pb2.HangRequest(), timeout=0.2)
        gc.collect()
        await probe.hanging.wait()
        await probe.cancelled.wait()

    run(test, socket_dir)


def test_closing_the_channel(socket_dir: Any) -> None:
    async def main() -> None:
        async with serving(OURS, socket_dir) as (target, probe):
            channel = aio.insecure_channel(target)
            assert isinstance(channel, grpc.aio.Channel)
            stub = probe_pb2_grpc.ProbeStub(channel)
            await channel.channel_ready()
            assert channel.get_state() is grpc.ChannelConnectivity.READY
            change = asyncio.ensure_future(
                channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            )
            hanging = stub.Hang(probe_pb2.HangRequest())
            await probe.hanging.wait()
            await channel.close(0.05)
            await channel.close()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            await asyncio.wait_for(change, DEADLINE)
            with pytest.raises(pygo_plugin.ClosedError):
                stub.Echo(echo())
            with pytest.raises(pygo_plugin.ClosedError):
                await channel.channel_ready()

    asyncio.run(main())


# ---- Interceptors -------------------------------------------------------------------------------


class Add(
    grpc.aio.UnaryUnaryClientInterceptor,  # type: ignore[misc]
):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        details.metadata.add("want-initial-seen", "yes")
        return await continuation(details, request)


class Replace(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        await (await continuation(details, request))
        return probe_pb2.EchoReply(payload=b"replaced")


class Streams(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)

        async def doubled() -> AsyncIterator[Any]:
            async for reply in call:
                yield reply
                yield reply

        return doubled()


class Requests(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        async def changed() -> AsyncIterator[Any]:
            async for request in requests:
                yield probe_pb2.ChatMessage(payload=request.payload + b"!")

        return await continuation(details, changed())


@pytest.mark.parametrize("kind", [OURS, GRPCIO])
def test_client_interceptors(kind: str, socket_dir: Any) -> None:
    async def main() -> None:
        async with serving(OURS, socket_dir) as (target, _):
            async with channel_to(kind, target, interceptors=[Add()]) as channel:
                call = probe_pb2_grpc.ProbeStub(channel).Echo(echo())
                assert (await call).payload == b"x"
                assert (await call.initial_metadata())["seen"] == "yes"
                assert await call.code() is grpc.StatusCode.OK
                failing = probe_pb2_grpc.ProbeStub(channel).Fail(probe_pb2.FailRequest(code=5))
                with pytest.raises(grpc.aio.AioRpcError):
                    await failing
                hanging = probe_pb2_grpc.ProbeStub(channel).Hang(probe_pb2.HangRequest())
                assert hanging.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await hanging
            some = [Replace(), Streams(), Requests()]
            async with channel_to(kind, target, interceptors=some) as channel:
                stub = probe_pb2_grpc.ProbeStub(channel)
                assert (await stub.Echo(echo())).payload == b"replaced"
                replies = stub.Count(probe_pb2.CountRequest(n=2))
                assert [reply.number async for reply in replies] == [0, 0, 1, 1]
                chat = stub.Chat()
                await chat.write(probe_pb2.ChatMessage(payload=b"a"))
                assert (await chat.read()).payload == b"a!"
                await chat.done_writing()
                assert await chat.read() is grpc.aio.EOF

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_what_is_no_interceptor_is_refused() -> None:
    with pytest.raises(ValueError, match="intercept_unary_unary"):
        aio.insecure_channel("unix:/nowhere", interceptors=[object()])


# ---- Many, and large ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OURS, GRPCIO])
def test_a_thousand_calls_at_once(kind: str, socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        calls = [stub.Echo(echo(b"%d" % n)) for n in range(1000)]
        threads = threading.active_count()
        replies = await asyncio.gather(*calls)
        assert [reply.payload for reply in replies] == [b"%d" % n for n in range(1000)]
        assert threads < 20

    run(test, socket_dir, plugin=kind)


def test_back_pressure_of_replies(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        replies = stub.Count(probe_pb2.CountRequest(n=1000, size=100_000))
        assert (await replies.read()).number == 0
        written = -1
        while written != probe.written:  # until the server waits for us
            written = probe.written
            for _ in range(100):
                await stub.Echo(echo())
        assert written < 500
        count = 1
        while await replies.read() is not aio.EOF:
            count += 1
        assert count == 1000

    run(test, socket_dir)


def test_back_pressure_of_requests(socket_dir: Any) -> None:
    async def test(stub: Any, probe: Probe) -> None:
        yielded = 0

        async def large() -> AsyncIterator[Any]:
            nonlocal yielded
            for n in range(1000):
                yielded = n
                yield probe_pb2.ChatMessage(payload=bytes(100_000))

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chat = stub.Chat(large())
        seen = -1
        while seen != yielded:
            seen = yielded
            for _ in range(100):
                await stub.Echo(echo())
        assert seen < 500
        count = 0
        async for _ in chat:
            count += 1
        assert count == 1000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000

    run(test, socket_dir)


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
            serving(OURS, socket_dir) as (target, _),
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
            serving(OURS, socket_dir) as (target, _),
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
            _, probe = await client.dispense("probe")
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


def test_a_start_that_fails(handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        client = aio.Client(["false"], handshake_config=handshake, plugins=plugins)
        with pytest.raises(pygo_plugin.ExitedEarlyError):
            await client.start()
        assert "exited" in await client.ping()
        await client.kill()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.mark.usefixtures("no_leftovers")
def test_the_loop_runs_while_a_plugin_starts(peers: Any, handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        client = aio.Client(peers.plugin("python"), handshake_config=handshake, plugins=plugins)
        turns = 0
        start = asyncio.ensure_future(client.start())
        while not start.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 3
        assert start.result().string()
        await client.kill()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
