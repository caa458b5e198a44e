"""Everything that works without grpcio and protobuf, and what is said about the rest.

The programs run without site-packages: they find the standard library and this package only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any

import pytest

import pygo_plugin
from pygo_plugin import MissingPackageError, aio, rpc
from pygo_plugin.errors import _needing

SHARED = """
import json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # -I leaves it out

from pygo_plugin import HandshakeConfig, Plugin, netrpc, rpc

HANDSHAKE = HandshakeConfig(1, "PYGO_EXTRAS", "cookie")

def dump(value):
    return json.dumps(value).encode()

def handlers(service, **methods):
    made = {
        name: rpc.unary_unary_rpc_method_handler(method, json.loads, dump)
        for name, method in methods.items()
    }
    return (rpc.method_handlers_generic_handler(service, made),)

class Stub:
    def __init__(self, channel):
        for name in ("Reverse", "Fail", "CallBack"):
            setattr(self, name, channel.unary_unary(f"/extras.Test/{name}", dump, json.loads))

class Test(Plugin):
    def grpc_client(self, broker, channel):
        return broker, Stub(channel)

    def grpc_server(self, broker, server):
        from plugin import Blocking, Asynchronous

        servicer = (Asynchronous if sys.argv[1] == "aio" else Blocking)(broker)
        methods = {name: getattr(servicer, name) for name in ("Reverse", "Fail", "CallBack")}
        server.add_generic_rpc_handlers(handlers("extras.Test", **methods))

class Greeter:
    def greet(self, name: str) -> str:
        return f"hello, {name}"

GREETER = netrpc.plugin(Greeter)
"""

PLUGIN = """
import sys
from pygo_plugin import ServeConfig, StatusCode, serve
from shared import GREETER, HANDSHAKE, Test, dump, json

class Blocking:
    def __init__(self, broker):
        self.broker = broker

    def Reverse(self, request, context):
        return request[::-1]

    def Fail(self, request, context):
        context.abort(StatusCode.NOT_FOUND, f"no {request}")

    def CallBack(self, number, context):
        with self.broker.dial(number) as channel:
            return channel.unary_unary("/extras.Host/Ask", dump, json.loads)("plugin", timeout=30)

class Asynchronous:
    def __init__(self, broker):
        self.broker = broker

    async def Reverse(self, request, context):
        return request[::-1]

    async def Fail(self, request, context):
        await context.abort(StatusCode.NOT_FOUND, f"no {request}")

    async def CallBack(self, number, context):
        async with await self.broker.dial(number) as channel:
            return await channel.unary_unary("/extras.Host/Ask", dump, json.loads)("plugin")

if __name__ == "__main__":
    kind = sys.argv[1]
    plugins = {"test": GREETER if kind == "netrpc" else Test()}
    config = ServeConfig(handshake_config=HANDSHAKE, plugins=plugins)
    if kind == "aio":
        import asyncio
        from pygo_plugin import aio

        asyncio.run(aio.serve(config))
    else:
        serve(config)
    assert not {"grpc", "google"} & set(sys.modules)
"""

HOST = """
import asyncio, sys
from shared import GREETER, HANDSHAKE, Test, handlers
from pygo_plugin import Client, RpcError, StatusCode, aio

options = {"handshake_config": HANDSHAKE, "plugins": {"test": Test()}, "kill_timeout": 60}
greets = {**options, "plugins": {"test": GREETER}, "allowed_protocols": ["netrpc"]}

def command(kind):
    return [sys.executable, *sys.argv[1:], "plugin.py", kind]

def answer(request, context):
    return f"hello, {request}"

def check_failure(error):
    assert error.code() is StatusCode.NOT_FOUND and error.details() == "no key", error

def blocking(kind):
    with Client(command(kind), **options) as client:
        broker, test = client.dispense("test")
        assert test.Reverse("abc", timeout=30) == "cba"
        assert test.Reverse.future([1, 2], timeout=30).result() == [2, 1]
        try:
            test.Fail("key", timeout=30)
        except RpcError as error:
            check_failure(error)
        number = broker.next_id()
        server = broker.accept_and_serve(
            number, lambda s: s.add_generic_rpc_handlers(handlers("extras.Host", Ask=answer))
        )
        assert test.CallBack(number, timeout=30) == "hello, plugin"
        server.stop(None)
        assert client.ping() == ""
    assert client.exit_status == 0

async def asynchronous(kind):
    async with aio.Client(command(kind), **options) as client:
        broker, test = await client.dispense("test")
        assert await test.Reverse("abc", timeout=30) == "cba"
        try:
            await test.Fail("key", timeout=30)
        except RpcError as error:
            check_failure(error)
        number = broker.next_id()
        server = await broker.accept_and_serve(
            number, lambda s: s.add_generic_rpc_handlers(handlers("extras.Host", Ask=answer))
        )
        assert await test.CallBack(number, timeout=30) == "hello, plugin"
        await server.stop(None)
        assert await client.ping() == ""
    assert client.exit_status == 0
    async with aio.Client(command("netrpc"), **greets) as client:
        greeter = await client.dispense("test")
        assert await greeter.greet("you", timeout=30) == "hello, you"
        assert await client.ping() == ""
    assert client.exit_status == 0

for kind in "blocking", "aio":
    blocking(kind)
    asyncio.run(asynchronous(kind))
with Client(command("netrpc"), **greets) as client:
    assert client.dispense("test").greet("you", timeout=30) == "hello, you"
    assert client.ping() == ""
assert client.exit_status == 0
assert not {"grpc", "google"} & set(sys.modules)
print("all is well")
"""

OTHERWISE = """
import asyncio, pickle, sys
from shared import HANDSHAKE, Test
from pygo_plugin import MissingPackageError, Plugin, PluginError, Server, aio, errors, rpc, testing

def message(function, kind=MissingPackageError):
    try:
        function()
    except kind as error:
        return str(error)

def imports():
    from pygo_plugin.rpc import intercept_channel

class Generated(Plugin):
    def client_class(self):
        import grpc
    def server_register(self, server):
        import google.protobuf

class Mute(Plugin):
    def client_class(self):
        import grpc
    def server_register(self, server):
        pass

class Foreign(Server):
    def server(self):
        return type("Server", (), dict.fromkeys(
            ("add_generic_rpc_handlers", "start", "stop", "wait_for_termination"), print))()

def dispense():
    with testing.client({"kv": Mute()}) as client:
        client.dispense("kv")

def serve():
    with testing.serve({"kv": Generated()}):
        pass

async def dispense_aio():
    with testing.serve({"kv": Mute()}) as reattach:
        client = aio.Client(reattach_config=reattach, plugins={"kv": Mute()}, name="mine")
        await client.dispense("kv")

def serve_foreign():
    from pygo_plugin import ServeConfig, ServeTestConfig
    config = ServeConfig(handshake_config=HANDSHAKE, plugins={"kv": Mute()}, test=ServeTestConfig())
    Foreign(config).serve()

print(message(imports))
print(message(lambda: rpc.ServerInterceptor))
print(message(lambda: aio.UnaryUnaryClientInterceptor))
print(message(dispense))
print(message(lambda: asyncio.run(dispense_aio())))
print(message(serve))
print(message(serve_foreign))
print(hasattr(rpc, "nonsense"), hasattr(aio, "nonsense"))
print(rpc.Compression.Gzip == 2, rpc.StatusCode.OK, rpc.RpcError is errors.RpcError)
try:
    rpc.ServerInterceptor
except ModuleNotFoundError as error:
    print(error.name, isinstance(error, PluginError))
    assert pickle.loads(pickle.dumps(error)).args == error.args
"""

NEEDS = "needs grpcio, which is not installed: pip install 'pygo-plugin[grpcio]'"
EXPECTED = f"""
pygo_plugin.rpc.intercept_channel {NEEDS}
pygo_plugin.rpc.ServerInterceptor {NEEDS}
pygo_plugin.aio.UnaryUnaryClientInterceptor {NEEDS}
kv: the plugin 'kv' {NEEDS}
mine: the plugin 'kv' {NEEDS}
the plugin 'kv' {NEEDS.replace("grpcio", "protobuf")}
a server that is not of this package {NEEDS}
False False
True StatusCode.OK True
grpc True
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs one of the programs above without site-packages. Returns: what it has printed."""
    package = Path(pygo_plugin.__file__).parent
    (tmp_path / "pygo_plugin").symlink_to(package, target_is_directory=True)
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    for name, text in (
        ("shared", SHARED),
        ("plugin", PLUGIN),
        ("host", HOST),
        ("other", OTHERWISE),
    ):
        (tmp_path / f"{name}.py").write_text(path + text)

    def run(name: str) -> str:
        isolated = ["-I", "-S", "-W", "error", "-X", "dev"]
        done = subprocess.run(
            [sys.executable, *isolated, f"{name}.py", *isolated],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.usefixtures("no_leftovers")
def test_calls_need_neither_grpcio_nor_protobuf(run: Any) -> None:
    assert run("host") == "all is well\n"


def test_what_needs_grpcio_says_so(run: Any) -> None:
    assert run("other").strip() == EXPECTED.strip()


@pytest.mark.parametrize(
    ("module", "extra"),
    [("grpc", "grpcio"), ("google", "protobuf"), ("google.protobuf", "protobuf")],
)
def test_errors_name_the_extra(module: str, extra: str) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    message = rf"^x needs {extra}.*\[{extra}\]"
    with pytest.raises(MissingPackageError, match=message) as caught, _needing("x"):
        raise missing
    assert caught.value.name == module
    assert caught.value.__cause__ is missing


def test_other_errors_are_left_alone() -> None:
    for error in (ModuleNotFoundError("No module named 'x'", name="x"), ImportError("grpc broke")):
        with pytest.raises(ImportError) as caught, _needing("x"):
            raise error
        assert caught.value is error


def test_every_name_of_grpcio_is_known() -> None:
    """Those that need grpcio are listed, for programs that use them without it."""
    import grpc.aio

    for ours, theirs in ((rpc, grpc), (aio, grpc.aio)):
        own = {*ours.__all__, *ours._TWINS, *getattr(ours, "_FOREIGN", ())}
        assert set(theirs.__all__) <= own | ours._GRPCIO
        assert not own & ours._GRPCIO
        for name in ours._GRPCIO & set(theirs.__all__):
            assert getattr(ours, name) is getattr(theirs, name)


def test_the_metadata_has_the_extras_and_no_other_requirement() -> None:
    found = requires("pygo-plugin") or []
    assert all("extra ==" in requirement for requirement in found)
    extras = metadata("pygo-plugin").get_all("Provides-Extra") or []
    assert {"grpcio", "protobuf"} <= set(extras)
    assert any(r.startswith("grpcio>=") and "'grpcio'" in r.replace('"', "'") for r in found)


def test_handlers_work_with_grpcios_servers() -> None:
    script = """
    from pygo_plugin import rpc
    handler = rpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
    stream = rpc.stream_stream_rpc_method_handler(lambda requests, context: requests)
    some = rpc.unary_stream_rpc_method_handler(lambda request, context: iter([request] * 2))
    last = rpc.stream_unary_rpc_method_handler(lambda requests, context: list(requests)[-1])
    methods = {"Reverse": handler, "Echo": stream, "Repeat": some, "Last": last}
    generic = rpc.method_handlers_generic_handler("t.T", methods)
    import sys
    assert "grpc" not in sys.modules
    import grpc
    from concurrent.futures import ThreadPoolExecutor
    assert isinstance(handler, grpc.RpcMethodHandler)
    assert isinstance(generic, grpc.ServiceRpcHandler)
    for server in grpc.server(ThreadPoolExecutor(2)), rpc.server():
        server.add_generic_rpc_handlers((generic,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        for module in grpc, rpc:
            with module.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert channel.unary_unary("/t.T/Reverse")(b"abc", timeout=30) == b"cba"
                assert list(channel.stream_stream("/t.T/Echo")(iter([b"a", b"b"]))) == [b"a", b"b"]
                assert list(channel.unary_stream("/t.T/Repeat")(b"a")) == [b"a", b"a"]
                assert channel.stream_unary("/t.T/Last")(iter([b"a", b"b"])) == b"b"
        server.stop(None).wait()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
