"""Calls of supervised plugins: over the ends of their processes, in every form."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import failing_plugin
import grpc
import kv_pb2
import kv_pb2_grpc
import probe_pb2 as pb
import pytest
from failing_plugin import HANDSHAKE, LAST_WORDS, Probe

from pygo_plugin import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    Plugin,
    PluginExitedError,
    PluginFailedError,
    RpcError,
    StatusCode,
    aio,
    netrpc,
    service,
)
from pygo_plugin._supervise import driver
from pygo_plugin._supervise.retry import Retries, is_idempotent
from pygo_plugin.supervise import Restart, Supervisor, idempotent

pytestmark = pytest.mark.usefixtures("no_leftovers")

TIMEOUT = 60.0
PLUGIN = [sys.executable, failing_plugin.__file__]
AT_ONCE = Restart(max_restarts=None, delay=0.0)
EXIT = pb.ExitRequest(status=3)
KILL = pb.ExitRequest(signal=signal.SIGKILL)
ONE = pb.SumRequest()
TWO = pb.CountRequest(n=2)
ECHO = pb.EchoRequest(payload=b"x")


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Makes supervisors of failing_plugin.py, and closes them after the test."""
    made: list[Supervisor] = []

    def supervisor(*arguments: str, cmd: Any = None, **options: Any) -> Supervisor:
        plugins: dict[str, Any] = {"probe": Probe.plugin(failing_plugin.Servicer)}
        if "--netrpc" in arguments:
            plugins = {"store": netrpc.plugin(failing_plugin.Store)}
            options["allowed_protocols"] = ["netrpc"]
        options = {
            "handshake_config": HANDSHAKE,
            "plugins": plugins,
            "restart": AT_ONCE,
            "kill_timeout": 0.0,  # it does not end when it is asked to
            **options,
        }
        found = Supervisor([*PLUGIN, *arguments] if cmd is None else cmd, **options)
        made.append(found)
        return found

    yield supervisor
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _short_idleness(monkeypatch: Any) -> None:
    """Lets the threads that supervise end at once, for which tests wait."""
    monkeypatch.setattr(driver, "IDLE", 0.01)


def failure(call: Callable[[], Any]) -> Any:
    with pytest.raises((RpcError, ClosedError, CallTimeoutError)) as caught:
        call()
    return caught.value


def check_cause(error: BaseException, status: int = 3) -> None:
    assert type(error.__cause__) is PluginExitedError
    assert error.__cause__.exit_status == status
    assert error.__cause__.stderr.endswith(LAST_WORDS)


def echo(probe: Any) -> None:
    assert probe.Echo(ECHO, timeout=TIMEOUT).payload == b"x"


@pytest.fixture
def ended(tmp_path: Any) -> Any:
    """Options of a plugin that is started again long after its end, and no sooner."""
    return {"restart": Restart(delay=TIMEOUT, max_delay=TIMEOUT)}


def end(plugin: Supervisor) -> None:
    os.kill(plugin.pid, signal.SIGKILL)
    assert plugin.wait_for("backing_off", TIMEOUT)


# ---- The end of the plugin -----------------------------------------------------------------------

WAYS: dict[str, Callable[[Any], Any]] = {
    "blocking": lambda probe: probe.Exit(EXIT, timeout=TIMEOUT),
    "with_call": lambda probe: probe.Exit.with_call(EXIT),
    "future": lambda probe: probe.Exit.future(EXIT, timeout=TIMEOUT).result(),
    "replies": lambda probe: list(probe.Count(pb.CountRequest())),
    "requests": lambda probe: probe.Sum(iter([ONE])),
    "future of requests": lambda probe: probe.Sum.future(iter([ONE])).result(),
}


@pytest.mark.parametrize("way", WAYS)
def test_calls_in_flight(make: Any, way: str) -> None:
    with make() as plugin:
        _, probe = plugin.dispense("probe")
        for _ in range(2):  # the second time with another incarnation
            error = failure(lambda: WAYS[way](probe))
            assert error.code() is StatusCode.UNAVAILABLE
            assert isinstance(error, grpc.RpcError)
            check_cause(error)
            echo(probe)


def test_each_call_is_counted_once(make: Any) -> None:
    plugin = make(max_calls=100)
    _, probe = plugin.dispense("probe")
    for count in (1, 2, 3):
        echo(probe)
        assert plugin._current._taken == count


def test_the_error_of_a_future_as_its_callback_sees_it(make: Any) -> None:
    with make() as plugin:
        _, probe = plugin.dispense("probe")
        seen: concurrent.futures.Future[Any] = concurrent.futures.Future()
        probe.Exit.future(KILL).add_done_callback(lambda call: seen.set_result(call.exception()))
        error = seen.result(TIMEOUT)
        check_cause(error, -signal.SIGKILL)
        assert "SIGKILL" in str(error.__cause__)


def test_a_plugin_that_hangs_and_is_killed(make: Any, freeze: Any) -> None:
    with make() as plugin:
        _, probe = plugin.dispense("probe")
        freeze(plugin.pid)
        call = probe.Echo.future(ECHO)
        plugin.restart()
        error = call.exception(TIMEOUT)
        assert error.code() is StatusCode.UNAVAILABLE
        assert type(error.__cause__) is PluginExitedError
        assert error.__cause__.exit_status == -signal.SIGKILL
        echo(probe)


def test_an_answer_of_unavailable_is_the_plugins_own(make: Any) -> None:
    with make(retry={"Echo": 5}) as plugin:
        _, probe = plugin.dispense("probe")
        error = failure(lambda: probe.Echo(pb.EchoRequest(payload=b"unavailable")))
        assert error.code() is StatusCode.UNAVAILABLE
        assert error.details() == "the database is down"
        assert error.__cause__ is None


# ---- Waiting -------------------------------------------------------------------------------------

LATE: dict[str, Callable[[Any, float], Any]] = {
    "blocking": lambda probe, timeout: probe.Echo(ECHO, timeout=timeout),
    "with_call": lambda probe, timeout: probe.Echo.with_call(ECHO, timeout=timeout),
    "future": lambda probe, timeout: probe.Echo.future(ECHO, timeout=timeout).result(),
    "replies": lambda probe, timeout: next(probe.Count(pb.CountRequest(n=2), timeout=timeout)),
    "requests": lambda probe, timeout: probe.Sum.future(iter([]), timeout=timeout).result(),
}


@pytest.mark.parametrize("way", LATE)
def test_calls_wait_until_their_deadlines(make: Any, ended: Any, way: str) -> None:
    with make(**ended) as plugin:
        _, probe = plugin.dispense("probe")
        end(plugin)
        error = failure(lambda: LATE[way](probe, 0.05))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        assert "is backing off" in error.details()


@pytest.mark.parametrize("way", LATE)
def test_calls_that_do_not_wait(make: Any, ended: Any, way: str) -> None:
    with make(wait=False, **ended) as plugin:
        _, probe = plugin.dispense("probe")
        end(plugin)
        error = failure(lambda: LATE[way](probe, TIMEOUT))
        assert error.code() is StatusCode.UNAVAILABLE
        assert "is backing off" in error.details()


@pytest.mark.parametrize("way", [way for way in LATE if way != "requests"])
def test_calls_wait_for_the_next_incarnation(make: Any, ended: Any, way: str) -> None:
    with make(**ended) as plugin, concurrent.futures.ThreadPoolExecutor() as threads:
        _, probe = plugin.dispense("probe")
        end(plugin)
        waiting = [threads.submit(LATE[way], probe, TIMEOUT) for _ in range(8)]
        plugin.restart()
        for call in waiting:
            assert call.result(TIMEOUT) is not None


@pytest.mark.parametrize("way", LATE)
def test_calls_of_a_plugin_that_was_given_up(make: Any, way: str) -> None:
    with make(restart=Restart("never")) as plugin:
        _, probe = plugin.dispense("probe")
        os.kill(plugin.pid, signal.SIGKILL)
        assert plugin.wait_for("failed", TIMEOUT)
        with pytest.raises(PluginFailedError):
            LATE[way](probe, TIMEOUT)
        plugin.restart()
        echo(probe)


def test_calls_after_the_end(make: Any) -> None:
    with make() as plugin:
        channel, probe = plugin.dispense("probe")
        assert "ready" in repr(channel)
    with pytest.raises(ClosedError, match="has been closed"):
        echo(probe)
    with pytest.raises(ClosedError, match="has been closed"):
        probe.Echo.future(ECHO).result()


def test_waiting_calls_are_cancelled(make: Any, ended: Any) -> None:
    with make(**ended) as plugin:
        _, probe = plugin.dispense("probe")
        end(plugin)
        call, replies = probe.Echo.future(ECHO), probe.Count(pb.CountRequest())
        assert call.running()
        assert call.cancel()
        assert replies.cancel()
        assert call.cancelled()
        assert call.code() is StatusCode.CANCELLED
        with pytest.raises(grpc.FutureCancelledError):
            call.result()
        assert failure(lambda: next(replies)).code() is StatusCode.CANCELLED


# ---- Repetitions ---------------------------------------------------------------------------------


class Counting:
    """A plugin program that ends in the first calls of its methods: how many, a file says."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.cmd = [*PLUGIN, "--ends", str(path)]

    def ends(self, number: int) -> None:
        self.path.write_text("x" * number)

    def left(self) -> int:
        return len(self.path.read_text())


@pytest.fixture
def counting(tmp_path: Any) -> Counting:
    return Counting(tmp_path / "ends")


@pytest.mark.parametrize("way", ["blocking", "with_call", "future", "replies"])
def test_calls_that_are_repeated(make: Any, counting: Counting, way: str) -> None:
    counting.ends(2)
    with make(cmd=counting.cmd, retry={"Echo": 2, "/probe.Probe/Count": 2}) as plugin:
        _, probe = plugin.dispense("probe")
        assert LATE[way](probe, TIMEOUT) is not None
        assert counting.left() == 0
        counting.ends(3)
        check_cause(failure(lambda: LATE[way](probe, TIMEOUT)))
        assert counting.left() == 0


def test_a_repeated_call_calls_back_once(make: Any, counting: Counting) -> None:
    counting.ends(1)
    with make(cmd=counting.cmd, retry={"Echo": 1}) as plugin:
        _, probe = plugin.dispense("probe")
        done: Any = concurrent.futures.Future()
        call = probe.Echo.future(ECHO)
        call.add_done_callback(done.set_result)
        assert done.result(TIMEOUT).result() is call.result()


def test_nothing_else_is_repeated(make: Any, counting: Counting) -> None:
    with make(cmd=counting.cmd, retry={"Count": 5, "Sum": 5}) as plugin:
        _, probe = plugin.dispense("probe")
        counting.ends(1)
        check_cause(failure(lambda: echo(probe)))
        counting.ends(0)
        replies = probe.Count(pb.CountRequest())
        next(replies)
        check_cause(failure(lambda: next(replies)))
        check_cause(failure(lambda: probe.Sum(iter([ONE]))))


def test_which_methods_are_repeated() -> None:
    retries = Retries({"Get": 3, "/kv.KV/Put": 2, "Store.Drop": 1})
    assert [retries.of(f"/kv.KV/{name}") for name in ("Get", "Put", "Drop")] == [3, 2, 0]
    assert [retries.of(name) for name in ("Store.Get", "Store.Put", "Store.Drop")] == [3, 0, 1]
    assert Retries(None).of("/kv.KV/Get") == 0


def test_idempotent() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="idem.proto", package="idem")
    file.message_type.add(name="M")
    made = file.service.add(name="S")
    for name, level in (("Read", 1), ("Set", 2), ("Add", 0)):
        method = made.method.add(name=name, input_type=".idem.M", output_type=".idem.M")
        method.options.idempotency_level = level  # type: ignore[assignment]
    descriptor_pool.Default().Add(file)  # type: ignore[attr-defined]
    paths = [f"/idem.S/{name}" for name in ("Read", "Set", "Add", "None")]
    assert list(map(is_idempotent, paths)) == [True, True, False, False]
    assert Retries(idempotent).of(paths[0]) == 3
    own = descriptor_pool.DescriptorPool()
    file.package, file.name = "own", "own.proto"
    for method in file.service[0].method:
        method.input_type = method.output_type = ".own.M"
    own.Add(file)  # type: ignore[attr-defined]
    stub = service(own.FindServiceByName("own.S")).Stub
    assert stub is not None
    assert is_idempotent("/own.S/Read")
    assert not is_idempotent("/own.S/Add")


# ---- What is built on channels -------------------------------------------------------------------


def test_generated_stubs_and_interceptors(
    make: Any, peers: Any, handshake: Any, ended: Any
) -> None:
    seen: list[str] = []

    class Interceptor(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return proceed(details, request)

    class Wrapped(Plugin[Any]):
        def client(self, client: Any) -> Any:
            channel = grpc.intercept_channel(client.new_channel(), Interceptor())
            return kv_pb2_grpc.KVStub(channel)

    options = {"handshake_config": handshake, "plugins": {"kv": Wrapped()}, **ended}
    with make(cmd=peers.plugin("go"), **options) as plugin:
        kv = plugin.dispense("kv")
        first = plugin.pid
        for number in range(2):
            kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=TIMEOUT)
            assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=TIMEOUT).value == b"v"
            future = kv.Get.future(kv_pb2.GetRequest(key="k"), timeout=TIMEOUT)
            assert future.result().value == b"v"
            if number == 0:
                end(plugin)
                plugin.restart()
        assert plugin.pid != first
        assert seen == 2 * ["/kv.KV/Put", "/kv.KV/Get", "/kv.KV/Get"]


def test_a_channel(make: Any, eventually: Any, ended: Any) -> None:
    with make(**ended) as plugin:
        channel, probe = plugin.dispense("probe")
        assert isinstance(channel, grpc.Channel)
        assert isinstance(probe.Echo, grpc.UnaryUnaryMultiCallable)
        grpc.channel_ready_future(channel).result(TIMEOUT)
        states: list[Any] = []
        channel.subscribe(states.append)
        eventually(lambda: grpc.ChannelConnectivity.READY in states)
        end(plugin)
        eventually(lambda: states[-1] is grpc.ChannelConnectivity.CONNECTING)
        plugin.restart()
        eventually(lambda: states[-1] is grpc.ChannelConnectivity.READY)
        _, other = plugin.dispense("probe")
        echo(probe)
        channel.close()
        with pytest.raises(ValueError, match="closed"):
            echo(probe)
        echo(other)


def test_what_dropped_stubs_leave(make: Any) -> None:
    with make() as plugin:
        current = plugin._wait_current(None)
        for _ in range(3):
            channel, probe = plugin.dispense("probe")
            echo(probe)
            assert len(current.callables) == 2  # the channel, and one method
            for _ in range(2):
                Probe.Stub(channel).Echo(ECHO)
            assert len(current.callables) == 2
            del channel, probe
            gc.collect()
            assert not current.callables
        assert current.calls == 0


def test_calls_are_counted_until_they_end(make: Any, eventually: Any) -> None:
    with make() as plugin:
        _, probe = plugin.dispense("probe")
        current = plugin._wait_current(None)
        hanging = probe.Hang.future(pb.HangRequest())
        replies = probe.Count(pb.CountRequest(n=1))
        assert current.calls == 2
        del replies
        hanging.cancel()
        eventually(lambda: current.calls == 0)


# ---- net/rpc -------------------------------------------------------------------------------------


def test_netrpc(make: Any) -> None:
    with make("--netrpc", retry={"Plugin.Exit": 2}) as plugin:
        store = plugin.dispense("store")
        assert store.get("a", timeout=TIMEOUT) == "a"
        check_cause(failure(lambda: store.exit(3)))
        assert store.get("b", timeout=TIMEOUT) == "b"
        first = plugin.pid
        call = store.rpc_client.go("Plugin.Hang")
        seen: Any = concurrent.futures.Future()
        call.add_done_callback(lambda call: seen.set_result(call.exception()))
        os.kill(first, signal.SIGKILL)
        error = failure(call.result)
        assert type(error.__cause__) is PluginExitedError
        assert error.__cause__.exit_status == -signal.SIGKILL
        assert seen.result(TIMEOUT) is error
        assert store.rpc_client.go("Plugin.Get", "c").result(TIMEOUT) == "c"
        store.close()
        with pytest.raises(ClosedError):
            store.get("d")


def test_netrpc_waits(make: Any, ended: Any) -> None:
    with make("--netrpc", **ended) as plugin:
        store = plugin.dispense("store")
        end(plugin)
        assert "backing off" in str(failure(lambda: store.get("a", timeout=0.05)))
        call = store.rpc_client.go("Plugin.Get", "a")
        plugin.restart()
        assert call.result(TIMEOUT) == "a"
    with make("--netrpc", wait=False, **ended) as plugin:
        store = plugin.dispense("store")
        end(plugin)
        for way in (store.get, lambda key: store.rpc_client.go("Plugin.Get", key).result()):
            error = failure(lambda way=way: way("a"))
            assert type(error) is ClosedError
            assert "backing off" in str(error)
    plugin = make("--netrpc", retry=idempotent)
    with pytest.raises(ConfigError, match="name the methods"):
        plugin.dispense("store")


# ---- Many threads --------------------------------------------------------------------------------


def test_a_plugin_that_is_killed_under_load(make: Any) -> None:
    """What is to be repeated does not fail, and nothing hangs."""
    with make(retry={"Echo": 100}) as plugin:
        _, probe = plugin.dispense("probe")
        over = threading.Event()
        made: list[int] = []

        def call() -> None:
            while not over.is_set():
                echo(probe)
                made.append(1)

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            callers = [threads.submit(call) for _ in range(8)]
            for number in range(1, 4):
                os.kill(plugin._wait_current(None).client.pid, signal.SIGKILL)
                assert plugin.wait_for("backing_off", TIMEOUT)
                found = plugin._wait_current(None).number
                assert found > number
            over.set()
            for caller in callers:
                caller.result(TIMEOUT)
        assert made


# ---- asyncio -------------------------------------------------------------------------------------


def supervise(main: Callable[..., Any], *arguments: str, cmd: Any = None, **options: Any) -> None:
    """Runs a coroutine function with an aio.Supervisor and what it offers."""

    async def run() -> None:
        rpc = "--netrpc" in arguments
        plugin = netrpc.plugin(failing_plugin.Store) if rpc else Probe.plugin()
        name = "store" if rpc else "probe"
        async with aio.Supervisor(
            [*PLUGIN, *arguments] if cmd is None else cmd,
            handshake_config=HANDSHAKE,
            plugins={name: plugin},
            kill_timeout=0.0,
            allowed_protocols=["netrpc" if rpc else "grpc"],
            **{"restart": AT_ONCE, **options},
        ) as supervisor:
            made = await supervisor.dispense(name)
            await main(supervisor, made if rpc else made[1])

    asyncio.run(asyncio.wait_for(run(), TIMEOUT))


async def iterate(call: Any) -> list[Any]:
    return [reply async for reply in call]


async def read_all(call: Any) -> None:
    while await call.read() is not aio.EOF:
        pass


async def write(call: Any) -> Any:
    await call.write(ONE)
    await call.done_writing()
    return await call


async def end_aio(plugin: Any) -> None:
    os.kill(plugin.pid, signal.SIGKILL)
    assert await plugin.wait_for("backing_off", TIMEOUT)


AIO_WAYS: dict[str, Callable[[Any], Any]] = {
    "one reply": lambda probe: probe.Exit(EXIT, timeout=TIMEOUT),
    "iteration": lambda probe: iterate(probe.Count(pb.CountRequest())),
    "read": lambda probe: read_all(probe.Count(pb.CountRequest())),
    "requests": lambda probe: probe.Sum(iter([ONE])),
    "writing": lambda probe: write(probe.Sum()),
}


async def failed(awaitable: Any) -> Any:
    with pytest.raises((RpcError, ClosedError, CallTimeoutError)) as caught:
        await awaitable
    return caught.value


def test_awaited_calls_in_flight() -> None:
    async def main(plugin: Any, probe: Any) -> None:
        for way in (*AIO_WAYS, "iteration"):
            error = await failed(AIO_WAYS[way](probe))
            assert error.code() is StatusCode.UNAVAILABLE
            assert isinstance(error, grpc.RpcError)
            check_cause(error)
            assert (await probe.Echo(ECHO, timeout=TIMEOUT)).payload == b"x"

    supervise(main)


AIO_LATE: dict[str, Callable[[Any, float], Any]] = {
    "one reply": lambda probe, timeout: probe.Echo(ECHO, timeout=timeout),
    "iteration": lambda probe, timeout: iterate(probe.Count(TWO, timeout=timeout)),
    "read": lambda probe, timeout: read_all(probe.Count(TWO, timeout=timeout)),
    "requests": lambda probe, timeout: probe.Sum(iter([]), timeout=timeout),
    "writing": lambda probe, timeout: write(probe.Sum(timeout=timeout)),
}


def test_awaited_calls_wait(ended: Any) -> None:
    async def main(plugin: Any, probe: Any) -> None:
        await end_aio(plugin)
        for way in AIO_LATE.values():
            error = await failed(way(probe, 0.05))
            assert error.code() is StatusCode.DEADLINE_EXCEEDED
            assert "is backing off" in error.details()
        call = probe.Echo(ECHO)
        done = asyncio.get_running_loop().create_future()
        call.add_done_callback(done.set_result)
        assert call.cancel()
        assert await call.code() is StatusCode.CANCELLED
        assert await done is call
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call
        waiting = [asyncio.ensure_future(iterate(probe.Count(TWO)))]
        waiting += [asyncio.ensure_future(task(probe.Echo(ECHO))) for _ in range(8)]
        await plugin.restart()
        for one in waiting:
            assert await one

    async def task(call: Any) -> Any:
        return await call

    supervise(main, **ended)


def test_awaited_calls_that_do_not_wait(ended: Any) -> None:
    async def main(plugin: Any, probe: Any) -> None:
        await end_aio(plugin)
        for way in AIO_LATE.values():
            error = await failed(way(probe, TIMEOUT))
            assert error.code() is StatusCode.UNAVAILABLE
            assert "is backing off" in error.details()

    supervise(main, wait=False, **ended)


def test_awaited_calls_that_are_repeated(counting: Counting) -> None:
    async def main(plugin: Any, probe: Any) -> None:
        for way in ("one reply", "iteration", "read"):
            counting.ends(2)
            await AIO_LATE[way](probe, TIMEOUT)
            assert counting.left() == 0
        counting.ends(3)
        check_cause(await failed(probe.Echo(ECHO)))
        assert counting.left() == 0
        call = probe.Count(pb.CountRequest())
        assert await call.read() == pb.CountReply()
        check_cause(await failed(call.read()))

    supervise(main, cmd=counting.cmd, retry={"Echo": 2, "Count": 2})


def test_awaited_calls_are_counted_until_they_end() -> None:
    async def main(plugin: Any, probe: Any) -> None:
        current = await plugin._wait_current(None)
        waiting = probe.Sum()  # for requests
        replies = probe.Count(pb.CountRequest(n=2))
        assert current.calls == 2
        waiting.cancel()
        del waiting, replies
        while current.calls:
            gc.collect()
            await asyncio.sleep(0.01)

    supervise(main)


def test_awaited_calls_of_a_plugin_that_was_given_up() -> None:
    async def main(plugin: Any, probe: Any) -> None:
        os.kill(plugin.pid, signal.SIGKILL)
        assert await plugin.wait_for("failed", TIMEOUT)
        for way in AIO_LATE.values():
            with pytest.raises(PluginFailedError):
                await way(probe, TIMEOUT)
        await plugin.restart()
        assert await probe.Echo(ECHO)

    supervise(main, restart=Restart("never"))


def test_awaited_netrpc() -> None:
    async def main(plugin: Any, store: Any) -> None:
        assert await store.get("a", timeout=TIMEOUT) == "a"
        check_cause(await failed(store.exit(3)))
        assert await store.get("b", timeout=TIMEOUT) == "b"
        await end_aio(plugin)
        assert "is " in str(await failed(store.get("a", timeout=0.0)))
        assert await store.get("b", timeout=TIMEOUT) == "b"
        await store.close()
        await failed(store.get("c"))

    supervise(main, "--netrpc")
