"""pygo_plugin.service: stubs and servicers without generated ones, with grpcio and without."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import kv_pb2
import kv_pb2_grpc
import probe_pb2
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

import pygo_plugin
from pygo_plugin import (
    ConfigError,
    ConfigTypeError,
    Plugin,
    RpcError,
    Service,
    ServicePlugin,
    StatusCode,
    aio,
    service,
)
from pygo_plugin._grpc.channel import Channel
from pygo_plugin._grpc.server import Server
from pygo_plugin._service.method import MessageType, Method
from pygo_plugin._service.protobuf import streaming_of

KV = service(kv_pb2, "KV")
Probe = service(probe_pb2)

PARTS = ("Echo", "Count", "Sum", "Chat")


class ProbeServicer(Probe.Servicer):  # type: ignore[name-defined, misc]
    """The four kinds of methods; the others are missing."""

    def Echo(self, request: Any, context: Any) -> Any:
        return probe_pb2.EchoReply(payload=request.payload)

    def Count(self, request: Any, context: Any) -> Iterator[Any]:
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number)

    def Sum(self, requests: Iterator[Any], context: Any) -> Any:
        values = [request.value for request in requests]
        return probe_pb2.SumReply(total=sum(values), count=len(values))

    def Chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield from requests


class AsyncProbeServicer(Probe.Servicer):  # type: ignore[name-defined, misc]
    async def Echo(self, request: Any, context: Any) -> Any:
        return probe_pb2.EchoReply(payload=request.payload)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number)

    async def Sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        values = [request.value async for request in requests]
        return probe_pb2.SumReply(total=sum(values), count=len(values))

    async def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield request


# ---- What is made -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        kv_pb2,
        kv_pb2.DESCRIPTOR,
        kv_pb2.DESCRIPTOR.services_by_name["KV"],
        SimpleNamespace(DESCRIPTOR=kv_pb2.DESCRIPTOR.services_by_name["KV"]),
    ],
    ids=["module", "file", "service", "generated class"],
)
@pytest.mark.parametrize("name", [None, "KV", "kv.KV"])
def test_where_a_service_comes_from(source: Any, name: str | None) -> None:
    found = service(source, name)
    assert found.name == "kv.KV"
    assert found.descriptor.full_name == "kv.KV"
    assert list(found.methods) == ["Get", "Put"]
    assert repr(found) == "<service kv.KV: Get, Put>"


def test_methods() -> None:
    assert [method.kind for method in (Probe.methods[name] for name in PARTS)] == [
        "unary_unary",
        "unary_stream",
        "stream_unary",
        "stream_stream",
    ]
    method = Probe.methods["Sum"]
    assert method.name == "Sum"
    assert method.path == "/probe.Probe/Sum"
    assert (method.request_streaming, method.response_streaming) == (True, False)
    assert method.request is probe_pb2.SumRequest
    assert method.response is probe_pb2.SumReply
    request, reply = probe_pb2.SumRequest(value=1), probe_pb2.SumReply(total=2)
    assert method.request_deserializer(method.request_serializer(request)) == request
    assert method.response_deserializer(method.response_serializer(reply)) == reply
    assert repr(method) == "<rpc Sum(stream probe.SumRequest) returns (probe.SumReply)>"


def test_classes_are_made_once() -> None:
    assert KV.Stub is KV.Stub
    assert KV.Servicer is KV.Servicer
    assert KV.Stub.__name__ == "KVStub"
    assert KV.Servicer.__name__ == "KVServicer"


def test_what_editors_show() -> None:
    get = KV.Stub.Get
    assert "rpc Get(kv.GetRequest) returns (kv.GetResponse)" in get.__doc__
    assert "rpc Put(kv.PutRequest) returns (kv.PutResponse)" in str(KV.Stub.__doc__)
    assert "rpc Put(kv.PutRequest) returns (kv.PutResponse)" in str(KV.Servicer.__doc__)
    assert "UNIMPLEMENTED" in KV.Servicer.Get.__doc__
    signature = inspect.signature(get)
    assert list(signature.parameters)[:3] == ["request", "timeout", "metadata"]
    assert signature.parameters["request"].annotation is kv_pb2.GetRequest
    assert signature.return_annotation is kv_pb2.GetResponse
    assert "request_iterator" in inspect.signature(Probe.Stub.Chat).parameters
    assert repr(get) == "<stub of rpc Get(kv.GetRequest) returns (kv.GetResponse)>"
    with pytest.raises(TypeError, match="make an instance of it, with a channel"):
        get(kv_pb2.GetRequest())


def test_a_descriptor_of_another_pool() -> None:
    """The messages come from that pool; equally named classes of a module would not fit."""
    file = descriptor_pb2.FileDescriptorProto(name="kv.proto", package="kv", syntax="proto3")
    file.message_type.add(name="GetRequest").field.add(
        name="other", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL"
    )
    file.service.add(name="KV").method.add(
        name="Get", input_type=".kv.GetRequest", output_type=".kv.GetRequest", client_streaming=True
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    other = service(pool.FindServiceByName("kv.KV"))
    method = other.methods["Get"]
    assert method.kind == "stream_unary"
    assert method.request is not kv_pb2.GetRequest
    assert method.request(other="x").other == "x"


class _OldMethod:
    """A method of a protobuf whose descriptors do not tell what streams."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def __getattr__(self, name: str) -> Any:
        if name in ("client_streaming", "server_streaming"):
            raise AttributeError(name)
        return getattr(self._method, name)


def test_an_older_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.protobuf import message_factory

    methods = Probe.descriptor.methods_by_name
    assert [streaming_of(_OldMethod(methods[name])) for name in PARTS] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    current = message_factory.GetMessageClass

    class MessageFactory:
        def __init__(self, pool: Any) -> None:
            assert pool is not None

        def GetPrototype(self, descriptor: Any) -> Any:
            return current(descriptor)

    monkeypatch.setattr(message_factory, "MessageFactory", MessageFactory, raising=False)
    monkeypatch.delattr(message_factory, "GetMessageClass")
    assert service(probe_pb2).methods["Echo"].request is probe_pb2.EchoRequest


def test_another_encoding_than_protobuf(address: str) -> None:
    """A service is made of methods, which carry their serializers."""
    words = MessageType("Words", lambda: (list, b" ".join, bytes.split))
    count = MessageType("Count", lambda: (int, lambda n: b"%d" % n, int))
    lists = Service("test.Lists", [Method("test.Lists", "Len", words, count)])
    assert lists.methods["Len"].request is list
    assert lists.methods["Len"].path == "/test.Lists/Len"
    assert "rpc Len(Words) returns (Count)" in lists.Stub.__doc__

    class Lists(lists.Servicer):  # type: ignore[name-defined, misc]
        def Len(self, request: list[bytes], context: Any) -> int:
            return len(request)

    server = Server()
    lists.add_to_server(Lists(), server)
    server.add_insecure_port(address)
    server.start()
    with Channel(address) as channel:
        assert lists.Stub(channel).Len([b"a", b"b", b"c"], timeout=20) == 3
    server.stop(None).wait()


# ---- Mistakes -----------------------------------------------------------------------------------


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"kv\.proto defines no service Kv, only KV"):
        service(kv_pb2, "Kv")
    with pytest.raises(ConfigError, match=r"that of kv\.KV, not Other"):
        service(KV.descriptor, "Other")


def test_files_with_none_and_with_several() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="two.proto", syntax="proto3")
    pool = descriptor_pool.DescriptorPool()
    with pytest.raises(ConfigError, match=r"descriptor\.proto defines no service"):
        service(descriptor_pb2)
    file.service.add(name="One")
    file.service.add(name="Two")
    pool.AddSerializedFile(file.SerializeToString())
    two = pool.FindFileByName("two.proto")
    with pytest.raises(ConfigError, match=r"more than one service; choose one.*One, Two"):
        service(two)
    assert repr(service(two, "Two")) == "<service Two: no methods>"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kv_pb2", "not str; import the module"),
        (kv_pb2_grpc, "not the module kv_pb2_grpc; pass kv_pb2"),
        (kv_pb2.GetRequest, "the class GetRequest, which is a message"),
        (kv_pb2.GetRequest(), "GetRequest, which is a message"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_service(source: Any, message: str) -> None:
    with pytest.raises(ConfigTypeError, match=message):
        service(source)


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("unix:/x", "takes a channel, not str; make one"),
        (SimpleNamespace(new_channel=print), "pass its .channel"),
        ((1, 2), r"dispense\(\) returns \(channel, stub\)"),
        (None, "takes a channel, not NoneType"),
    ],
)
def test_what_is_no_channel(channel: Any, message: str) -> None:
    with pytest.raises(ConfigTypeError, match=message):
        KV.Stub(channel)


def test_servicers_that_do_not_fit() -> None:
    server = Server()

    class Partial:
        def Get(self, request: Any, context: Any) -> Any: ...
        def put(self, request: Any, context: Any) -> Any: ...

    class Async(KV.Servicer):  # type: ignore[name-defined, misc]
        async def Put(self, request: Any, context: Any) -> Any: ...

    with pytest.raises(ConfigTypeError, match=r"Partial lacks Put \(put is not Put\); let it"):
        KV.add_to_server(Partial(), server)
    with pytest.raises(ConfigTypeError, match=r"pass Partial\(\) instead of the class"):
        KV.add_to_server(Partial, server)
    with pytest.raises(ConfigTypeError, match="Put of Async is a coroutine function"):
        KV.add_to_server(Async(), server)
    with pytest.raises(ConfigTypeError, match="lacks Get, Put; let it"):
        KV.add_to_server(server, server)
    with pytest.raises(ConfigTypeError, match="takes a server second, not Partial"):
        KV.add_to_server(KV.Servicer(), Partial())


# ---- Calls --------------------------------------------------------------------------------------


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pygo") as directory:
        yield f"unix:{directory}/socket"


@contextlib.contextmanager
def serving(kind: str, address: str) -> Iterator[None]:
    """A server with the servicer of this test, in this process."""
    if kind == "grpc.aio":
        with _in_a_loop(_serve_async(grpc.aio.server, address)):
            yield
        return
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool) if kind == "grpc" else Server()
        Probe.add_to_server(ProbeServicer(), server)
        server.add_insecure_port(address)
        server.start()
        yield
        server.stop(None).wait()


async def _serve_async(make: Callable[[], Any], address: str) -> AsyncIterator[None]:
    server = make()
    Probe.add_to_server(AsyncProbeServicer(), server)
    server.add_insecure_port(address)
    await server.start()
    yield
    await server.stop(None)


@contextlib.contextmanager
def _in_a_loop(steps: AsyncIterator[None]) -> Iterator[None]:
    """Runs what `steps` does before and after its yield on an event loop of its own."""
    ready, over = threading.Event(), threading.Event()

    async def run() -> None:
        async for _ in steps:
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    with futures.ThreadPoolExecutor(1) as thread:
        done = thread.submit(asyncio.run, run())
        done.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            yield
        finally:
            over.set()
            done.result()


def use(stub: Any) -> None:
    """All kinds of calls, and a missing method."""
    assert stub.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=20).payload == b"x"
    count = stub.Count(probe_pb2.CountRequest(n=3), timeout=20)
    assert [reply.number for reply in count] == [0, 1, 2]
    requests = [probe_pb2.SumRequest(value=value) for value in (1, 2, 3)]
    reply = stub.Sum(iter(requests), timeout=20)
    assert (reply.total, reply.count) == (6, 3)
    messages = [probe_pb2.ChatMessage(payload=text) for text in (b"a", b"b")]
    assert list(stub.Chat(iter(messages), timeout=20)) == messages
    with pytest.raises(grpc.RpcError) as caught:
        stub.Fail(probe_pb2.FailRequest(), timeout=20)
    expect_unimplemented(caught.value)


async def use_async(stub: Any) -> None:
    assert (await stub.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=20)).payload == b"x"
    count = stub.Count(probe_pb2.CountRequest(n=3), timeout=20)
    assert [reply.number async for reply in count] == [0, 1, 2]
    requests = [probe_pb2.SumRequest(value=value) for value in (1, 2, 3)]
    reply = await stub.Sum(iter(requests), timeout=20)
    assert (reply.total, reply.count) == (6, 3)
    messages = [probe_pb2.ChatMessage(payload=text) for text in (b"a", b"b")]
    assert [reply async for reply in stub.Chat(iter(messages), timeout=20)] == messages
    with pytest.raises(grpc.RpcError) as caught:
        await stub.Fail(probe_pb2.FailRequest(), timeout=20)
    expect_unimplemented(caught.value)


def expect_unimplemented(error: Any) -> None:
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details().startswith("Method not implemented!")


@pytest.mark.parametrize("server", ["ours", "grpc", "grpc.aio"])
@pytest.mark.parametrize("client", ["ours", "grpc", "grpc.aio"])
def test_every_channel_with_every_server(client: str, server: str, address: str) -> None:
    with serving(server, address):
        if client == "grpc.aio":

            async def call() -> None:
                async with grpc.aio.insecure_channel(address) as channel:
                    await use_async(Probe.Stub(channel))

            asyncio.run(call())
            return
        open_channel: Any = Channel if client == "ours" else grpc.insecure_channel
        with open_channel(address) as channel:
            stub = Probe.Stub(channel)
            assert repr(stub) == "<stub of probe.Probe>"
            use(stub)


def test_interceptors_may_replace_parts_of_handlers(address: str) -> None:
    class Shout(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)
            assert isinstance(handler, grpc.RpcMethodHandler)

            def echo(request: Any, context: Any) -> Any:
                reply = handler.unary_unary(request, context)
                return probe_pb2.EchoReply(payload=reply.payload.upper())

            return handler._replace(unary_unary=echo)

    server = Server(interceptors=[Shout()])
    Probe.add_to_server(ProbeServicer(), server)
    server.add_insecure_port(address)
    server.start()
    with Channel(address) as channel:
        reply = Probe.Stub(channel).Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=20)
    assert reply.payload == b"X"
    server.stop(None).wait()


def test_generated_stubs_and_ours_understand_each_other(address: str) -> None:
    class Servicer(kv_pb2_grpc.KVServicer):  # type: ignore[misc]
        def Get(self, request: Any, context: Any) -> Any:
            return kv_pb2.GetResponse(value=request.key.encode())

    server = Server()
    KV.add_to_server(Servicer(), server)  # a generated base will do
    server.add_insecure_port(address)
    server.start()
    with Channel(address) as channel:
        for stub in (KV.Stub(channel), kv_pb2_grpc.KVStub(channel)):
            assert stub.Get(kv_pb2.GetRequest(key="k"), timeout=20).value == b"k"
    server.stop(None).wait()


# ---- Plugins ------------------------------------------------------------------------------------


def test_plugin() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.names: list[str] = []

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            self.names += [handler.service_name() for handler in handlers]

    plugin = KV.plugin()
    assert isinstance(plugin, Plugin)
    assert plugin.client_class() is KV.Stub
    assert repr(plugin) == "<plugin of <service kv.KV: Get, Put>>"
    with pytest.raises(ConfigError, match=r"kv\.KV: this plugin has no servicer to serve"):
        plugin.server_register(Recorder())

    class Callable(KV.Servicer):  # type: ignore[name-defined, misc]
        def __call__(self) -> None:
            raise AssertionError("a servicer is not what makes one")

    made = [KV.Servicer, KV.Servicer(), lambda: KV.Servicer(), Callable(), Callable]
    for servicer in made:
        recorder = Recorder()
        KV.plugin(servicer).server_register(recorder)
        assert recorder.names == ["kv.KV"]
    with pytest.raises(ConfigTypeError, match=r"service\(\) returns, not the module"):
        ServicePlugin(kv_pb2)  # type: ignore[arg-type]


def test_host_and_plugin(make_client: Any, peers: Any) -> None:
    """The plugin has generated stubs; the host makes them from the descriptor."""
    client = make_client(peers.plugin("python"), plugins={"kv": KV.plugin()})
    channel, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=20)
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=20).value == b"v"
    with pytest.raises(RpcError) as caught:
        kv.Get(kv_pb2.GetRequest(key="nothing"), timeout=20)
    assert caught.value.code() is StatusCode.NOT_FOUND
    assert isinstance(caught.value, grpc.RpcError)
    with pytest.raises(ConfigTypeError, match=r"pass its \.channel"):
        KV.Stub(client)
    channel.close()


# ---- Without grpcio -----------------------------------------------------------------------------

SHARED = """
import probe_pb2
from pygo_plugin import HandshakeConfig, service

HANDSHAKE = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
Probe = service(probe_pb2)
"""

PLUGIN = """
from probe_pb2 import CountReply, EchoReply, SumReply
from pygo_plugin import ServeConfig, StatusCode, serve
from shared import HANDSHAKE, Probe


class Servicer(Probe.Servicer):
    def Echo(self, request, context):
        return EchoReply(payload=request.payload)

    def Fail(self, request, context):
        context.set_trailing_metadata((("why", "because"),))
        context.abort(StatusCode.NOT_FOUND, request.details)

    def Count(self, request, context):
        for number in range(request.n):
            yield CountReply(number=number)
        if request.fail_code:
            context.set_code(StatusCode.DATA_LOSS)
            context.set_details("the end")

    def Sum(self, requests, context):
        return SumReply(total=sum(request.value for request in requests))

    def Chat(self, requests, context):
        yield from requests

    def Exit(self, request, context):
        raise RuntimeError("of the servicer's own")


if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"probe": Probe.plugin(Servicer)}))
"""

HOST = """
import sys

from probe_pb2 import *
from pygo_plugin import Client, RpcError, StatusCode
from shared import HANDSHAKE, Probe


def failure(call):
    try:
        call()
    except RpcError as error:
        return error
    raise AssertionError("did not fail")


with Client(
    [sys.executable, "plugin.py"],
    handshake_config=HANDSHAKE,
    plugins={"probe": Probe.plugin()},
) as client:
    channel, probe = client.dispense("probe")
    assert probe.Echo(EchoRequest(payload=b"x"), timeout=20).payload == b"x"
    reply, call = probe.Echo.with_call(EchoRequest(), timeout=20)
    assert call.code() is StatusCode.OK, call.code()
    assert probe.Echo.future(EchoRequest(payload=b"f")).result(20).payload == b"f"
    numbers = [reply.number for reply in probe.Count(CountRequest(n=3), timeout=20)]
    assert numbers == [0, 1, 2], numbers
    total = probe.Sum(iter([SumRequest(value=1), SumRequest(value=2)]), timeout=20).total
    assert total == 3, total
    said = [ChatMessage(payload=b"a"), ChatMessage(payload=b"b")]
    assert list(probe.Chat(iter(said), timeout=20)) == said

    error = failure(lambda: probe.Fail(FailRequest(details="not here"), timeout=20))
    assert error.code() is StatusCode.NOT_FOUND
    assert error.code().name == "NOT_FOUND" and error.code().value == (5, "not found")
    assert error.details() == "not here"
    assert ("why", "because") in [tuple(pair) for pair in error.trailing_metadata()]
    assert "NOT_FOUND" in str(error) and "not here" in str(error)

    replies = probe.Count(CountRequest(n=1, fail_code=1), timeout=20)
    assert next(replies).number == 0
    error = failure(lambda: next(replies))
    assert (error.code(), error.details()) == (StatusCode.DATA_LOSS, "the end")

    error = failure(lambda: probe.Hang(HangRequest(), timeout=20))
    assert error.code() is StatusCode.UNIMPLEMENTED, error
    error = failure(lambda: probe.Exit(ExitRequest(), timeout=20))
    assert error.code() is StatusCode.UNKNOWN, error
    error = failure(lambda: probe.Fail.future(FailRequest(), timeout=20).result())
    assert error.code() is StatusCode.NOT_FOUND, error
assert "grpc" not in sys.modules
print("all is well")
"""


@pytest.mark.usefixtures("no_leftovers")
def test_without_grpcio(tmp_path: Path) -> None:
    """Host and plugin where grpcio cannot be imported."""
    (tmp_path / "grpc.py").write_text("raise ImportError('there is no grpcio here')\n")
    for name, text in (("shared", SHARED), ("plugin", PLUGIN), ("host", HOST)):
        (tmp_path / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "host.py"],  # both find grpc.py in their own directory
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stderr


def run(script: str) -> str:
    return subprocess.check_output([sys.executable, "-c", textwrap.dedent(script)], text=True)


def test_nothing_but_protobuf_is_imported_before_the_handshake() -> None:
    output = run(
        """
        import os, sys
        import kv_pb2, google.protobuf.message_factory
        from pygo_plugin import _core, server
        before = set(sys.modules)
        from pygo_plugin import HandshakeConfig, ServeConfig, Server, StatusCode, service

        KV = service(kv_pb2, "KV")
        os.environ["PYGO_KEY"] = "value"
        os.environ.pop("PLUGIN_CLIENT_CERT", None)
        server._print_handshake = lambda *_: print(*sorted(set(sys.modules) - before))
        config = ServeConfig(
            handshake_config=HandshakeConfig(1, "PYGO_KEY", "value"),
            plugins={"kv": KV.plugin(KV.Servicer)},
        )
        plugin = Server(config)
        assert plugin.serve(), plugin.error_msg
        plugin.stop(None).wait()
        """
    )
    assert set(output.split()) <= {
        "faulthandler",  # in C, and a part of the interpreter
        "pygo_plugin._grpc",
        "pygo_plugin._grpc.abstract",
        "pygo_plugin._grpc.handlers",
        "pygo_plugin._grpc.server",
        "pygo_plugin._grpc.status",
        "pygo_plugin._serve.grpc_protocol",
        "pygo_plugin._service",
        "pygo_plugin._service.method",
        "pygo_plugin._service.protobuf",
        "pygo_plugin._service.service",
        "pygo_plugin._service.servicer",
        "pygo_plugin.plugin",
        "pygo_plugin._base.checks",
        "pygo_plugin.config",
        "pygo_plugin.errors",
    }


# ---- Status codes -------------------------------------------------------------------------------


def test_status_codes_are_grpcios() -> None:
    assert pygo_plugin.StatusCode is grpc.StatusCode  # which is imported already
    output = run(
        """
        import sys
        from pygo_plugin import StatusCode

        assert "grpc" not in sys.modules
        code = StatusCode.NOT_FOUND
        import grpc

        assert StatusCode.NOT_FOUND is grpc.StatusCode.NOT_FOUND
        assert code == grpc.StatusCode.NOT_FOUND and grpc.StatusCode.NOT_FOUND == code
        assert code != grpc.StatusCode.ABORTED and hash(code) == hash(StatusCode.NOT_FOUND)
        assert isinstance(code, StatusCode) and not isinstance(5, StatusCode)
        assert list(StatusCode) == list(grpc.StatusCode) and len(StatusCode) == 17
        assert StatusCode["OK"] is StatusCode((0, "ok")) is StatusCode.OK
        assert code in StatusCode and "ABORTED" in dir(StatusCode)
        try:
            StatusCode.NOWHERE
        except AttributeError as error:
            print(error)
        print(StatusCode)
        """
    )
    assert "NOWHERE" in output
    assert output.endswith("<StatusCode of pygo_plugin>\n")


# ---- Types --------------------------------------------------------------------------------------


def test_annotations_that_are_evaluated() -> None:
    assert pygo_plugin.Service[int] is pygo_plugin.Service
    assert pygo_plugin.ServicePlugin[int] is pygo_plugin.ServicePlugin
    assert pygo_plugin.Client[int] is pygo_plugin.Client
    assert aio.Client[int] is aio.Client
    assert pygo_plugin.ClientConfig[int] is pygo_plugin.ClientConfig
    assert pygo_plugin.netrpc.Plugin[int] is pygo_plugin.netrpc.Plugin

    class Mine(pygo_plugin.Plugin[tuple[grpc.Channel, int]]):
        pass

    assert Mine.__bases__ == (pygo_plugin.Plugin,)
