"""Plugins served in the test's own process: test mode, pygo_plugin.testing, and the fixtures."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import kv_pb2
import kv_pb2_grpc
import pytest

from pygo_plugin import (
    ConfigError,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    ServeConfig,
    Server,
    ServeTestConfig,
    StartError,
    aio,
    serve,
    testing,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")


class Servicer(kv_pb2_grpc.KVServicer):
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def Put(self, request: Any, context: Any) -> Any:
        self.values[request.key] = request.value
        return kv_pb2.PutResponse()

    def Get(self, request: Any, context: Any) -> Any:
        return kv_pb2.GetResponse(value=self.values[request.key])


class AioServicer(kv_pb2_grpc.KVServicer):
    async def Get(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return kv_pb2.GetResponse(value=request.key.encode())


class KV(Plugin):
    def __init__(self, servicer: Any) -> None:
        self.servicer = servicer

    def client_class(self) -> Any:
        return kv_pb2_grpc.KVStub

    def server_register(self, server: Any) -> None:
        kv_pb2_grpc.add_KVServicer_to_server(self.servicer, server)


class Idle(Plugin):
    def server_register(self, server: Any) -> None:
        pass


def put(kv: Any, value: bytes) -> None:
    kv.Put(kv_pb2.PutRequest(key="k", value=value), timeout=20)


def get(kv: Any, key: str = "k") -> bytes:
    return bytes(kv.Get(kv_pb2.GetRequest(key=key), timeout=20).value)


# ---- The fixtures -------------------------------------------------------------------------------


def test_stub_of_one_plugin(pygo_stub: Any) -> None:
    plugin = KV(Servicer())
    kv = pygo_stub(plugin)
    put(kv, b"v")
    assert plugin.servicer.values == {"k": b"v"}  # it is this process's own
    assert get(kv) == b"v"


def test_stubs_of_plugin_sets(pygo_stub: Any) -> None:
    one, other = KV(Servicer()), KV(Servicer())
    put(pygo_stub({"one": one, "idle": Idle()}, "one"), b"1")
    put(pygo_stub({"other": other}), b"2")
    assert (one.servicer.values["k"], other.servicer.values["k"]) == (b"1", b"2")


def test_which_plugin(pygo_stub: Any) -> None:
    plugins = {"a": KV(Servicer()), "b": KV(Servicer())}
    with pytest.raises(ConfigError, match="a, b"):
        pygo_stub(plugins)
    with pytest.raises(ConfigError, match="no plugin named 'c'"):
        pygo_stub(plugins, "c")


def test_client(pygo_client: Any) -> None:
    client = pygo_client({"kv": KV(Servicer())}, network="tcp")
    assert client.ping() == ""
    assert client.pid == os.getpid()
    assert client.conn_endpoint().startswith("127.0.0.1:")
    assert client.reattach_config().test
    client.kill()
    assert client.exited()


def test_names_of_clients(pygo_client: Any) -> None:
    assert pygo_client({"kv": KV(Servicer()), "other": KV(Servicer())}).name == "kv, other"
    named = pygo_client({"kv": KV(Servicer())}, name="mine")
    named.kill()
    assert named.ping().startswith("mine: ")


def test_asyncio_stub(pygo_aio_stub: Any) -> None:
    async def test() -> None:
        kv = await pygo_aio_stub(KV(AioServicer()))
        reply = await kv.Get(kv_pb2.GetRequest(key="key"), timeout=20)
        assert reply.value == b"key"

    asyncio.run(test())


def test_blocking_stub_of_coroutines(pygo_stub: Any) -> None:
    assert get(pygo_stub(KV(AioServicer()), asyncio=True), "key") == b"key"


# ---- pygo_plugin.testing ------------------------------------------------------------------------


def test_serving_leaves_the_process_alone(capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    outputs = (sys.stdout, sys.stderr)
    with testing.serve({"kv": KV(Servicer())}) as reattach:
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
        assert (sys.stdout, sys.stderr) == outputs
        assert reattach.valid
        assert reattach.test
        assert os.path.exists(reattach.address)
    assert not os.path.exists(reattach.address)
    assert capfd.readouterr() == ("", "")


def test_many_clients_of_one_server(make_client: Any) -> None:
    plugins = {"kv": KV(Servicer())}
    with testing.serve(plugins, handshake_config=HandshakeConfig(1, "K", "V")) as reattach:
        first = make_client(reattach_config=reattach, plugins=plugins)
        second = make_client(reattach_config=reattach, plugins=plugins)
        put(first.dispense("kv")[1], b"v")
        first.kill()  # which ends nothing but the client
        assert get(second.dispense("kv")[1]) == b"v"


def test_highest_version_is_served(make_client: Any) -> None:
    sets = {1: {"kv": Idle()}, 2: {"kv": KV(Servicer())}}
    with testing.client(versioned_plugins=sets) as client:
        assert client.negotiated_version == 2
        put(client.dispense("kv")[1], b"v")


def test_what_an_author_raises_arrives() -> None:
    class Broken(Plugin):
        def server_register(self, server: Any) -> None:
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"), testing.serve({"kv": Broken()}):
        pass


@pytest.mark.parametrize("on_loop", [False, True])
def test_cannot_serve(on_loop: bool) -> None:
    bad: Any = {"kv": 7}
    with pytest.raises(StartError, match="'kv'"), testing.serve(bad, asyncio=on_loop):
        pass


class Sink:
    """A binary writer that can be waited for."""

    def __init__(self) -> None:
        self._data = b""
        self._changed = threading.Condition()

    def write(self, data: bytes) -> None:
        with self._changed:
            self._data += data
            self._changed.notify_all()

    def wait_for(self, data: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._data == data, 20), self._data


@pytest.mark.parametrize("on_loop", [False, True])
def test_output_goes_to_who_reattaches(
    on_loop: bool, make_client: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    plugins = {"kv": KV(Servicer())}
    out, err = Sink(), Sink()
    os.write(1, b"before\n")
    with testing.serve(plugins, asyncio=on_loop, sync_stdio=True) as reattach:
        os.write(1, b"early\n")
        client = make_client(
            reattach_config=reattach, plugins=plugins, sync_stdout=out, sync_stderr=err
        )
        put(client.dispense("kv")[1], b"v")
        out.wait_for(b"early\n")
        subprocess.run(["/bin/sh", "-c", "echo child; echo error >&2"], check=True)
        err.wait_for(b"error\n")
        os.write(1, b"last\n")
    os.write(1, b"after\n")
    out.wait_for(b"early\nchild\nlast\n")
    assert capfd.readouterr() == ("before\nafter\n", "")


@pytest.mark.parametrize("on_loop", [False, True])
def test_one_server_at_a_time_has_the_output(on_loop: bool) -> None:
    plugins = {"kv": Idle()}
    with testing.serve(plugins, sync_stdio=True):
        second = testing.serve(plugins, asyncio=on_loop, sync_stdio=True)
        with pytest.raises(StartError, match="stdout and stderr have been replaced"), second:
            pass
        with testing.serve(plugins):  # which leaves it to the other
            pass
    with testing.serve(plugins, asyncio=on_loop, sync_stdio=True):
        pass


def test_output_of_a_process_that_prints(make_client: Any) -> None:
    program = """
        import os, sys, threading
        from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, ServeTestConfig, serve

        class Idle(Plugin):
            def server_register(self, server):
                pass

        stop = threading.Event()
        original = os.dup(1)

        def ready(config):
            os.write(original, config.to_json().encode() + b"\\n")
            print("a line")
            threading.Thread(target=wait).start()

        def wait():
            sys.stdin.readline()
            sys.stdout.write("rest")
            stop.set()

        sys.stdout.write("unflushed ")
        serve(ServeConfig(plugins={"idle": Idle()},
            test=ServeTestConfig(ready=ready, stop=stop, sync_stdio=True)))
        print(sys.stdout.line_buffering)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before, brace, text = process.stdout.readline().partition("{")
        assert before == "unflushed "
        out = Sink()
        client = make_client(
            reattach_config=ReattachConfig.from_json(brace + text),
            plugins={"idle": Idle()},
            sync_stdout=out,
        )
        client.start()
        out.wait_for(b"a line\n")
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "False\n"
        out.wait_for(b"a line\nrest")


# ---- ServeTestConfig ----------------------------------------------------------------------------


def test_stop_event() -> None:
    stop = threading.Event()
    found: list[ReattachConfig] = []

    def ready(config: ReattachConfig) -> None:
        found.append(config)
        stop.set()

    config = ServeConfig(
        plugins={"kv": KV(Servicer())}, test=ServeTestConfig(ready=ready, stop=stop)
    )
    serve(config)  # returns, because of the event
    (reattach,) = found
    assert reattach.pid == os.getpid()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_ready_that_raises(asynchronous: bool) -> None:
    """The exception reaches the caller, and the server is stopped."""
    found: list[ReattachConfig] = []

    def ready(config: ReattachConfig) -> None:
        found.append(config)
        raise ValueError("not ready")

    config = ServeConfig(plugins={"kv": KV(Servicer())}, test=ServeTestConfig(ready=ready))
    with pytest.raises(ValueError, match="not ready"):
        asyncio.run(aio.serve(config)) if asynchronous else serve(config)
    assert not os.path.exists(found[0].address)


def test_serving_that_fails_later(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Server._wait

    def wait_and_fail(self: Server) -> None:
        wait(self)
        raise LookupError("at the end")

    monkeypatch.setattr(Server, "_wait", wait_and_fail)
    with (
        pytest.raises(LookupError, match="at the end"),
        testing.serve({"kv": KV(Servicer())}),
    ):
        pass


def test_server_in_test_mode() -> None:
    server = Server(ServeConfig(plugins={"kv": KV(Servicer())}, test=ServeTestConfig()))
    assert not server.reattach_config().valid
    assert server.serve(), server.error_msg
    assert server.reattach_config().valid
    assert server.stop().wait(20)


def test_asyncio_server_in_test_mode(make_client: Any) -> None:
    async def test() -> None:
        plugins = {"kv": KV(AioServicer())}
        server = aio.Server(ServeConfig(plugins=plugins, test=ServeTestConfig()))
        assert await server.serve(), server.error_msg
        async with aio.Client(reattach_config=server.reattach_config(), plugins=plugins) as client:
            _, kv = await client.dispense("kv")
            assert (await kv.Get(kv_pb2.GetRequest(key="a"), timeout=20)).value == b"a"
        await server.stop()

    asyncio.run(test())


def test_types_are_checked() -> None:
    wrong: Any = 7
    with pytest.raises(TypeError, match=r"ServeTestConfig\.stop must be a threading\.Event"):
        ServeTestConfig(stop=wrong)
    with pytest.raises(TypeError, match=r"ServeTestConfig\.ready must be a callable"):
        ServeTestConfig(ready=wrong)
    with pytest.raises(TypeError, match=r"ServeTestConfig\.sync_stdio must be True or False"):
        ServeTestConfig(sync_stdio=wrong)
    with pytest.raises(TypeError, match=r"ServeConfig\.test must be a ServeTestConfig"):
        ServeConfig(test=wrong)
