"""What objects show of themselves, and which of them can be copied."""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import logging
import pickle
import pydoc
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import Any

import kv_pb2_grpc
import probe_pb2
import pytest
from certificates import Authority

from pygo_plugin import (
    ClientConfig,
    Cmd,
    HandshakeConfig,
    Plugin,
    ReattachConfig,
    RpcError,
    SecureConfig,
    ServeConfig,
    Server,
    StatusCode,
    TLSConfig,
    aio,
    gob,
    netrpc,
    rpc,
    service,
    testing,
)
from pygo_plugin.runners import BubblewrapRunner, Launch

Probe = service(probe_pb2)


class Servicer(Probe.Servicer):  # type: ignore[misc,name-defined]
    """Keeps what it shows of its contexts and requests."""

    shown: list[str]

    def __init__(self) -> None:
        self.shown = []

    def Echo(self, request: Any, context: Any) -> Any:
        self.shown.append(repr(context))
        if request.payload == b"refuse":
            context.abort(StatusCode.NOT_FOUND, "not here")
        return probe_pb2.EchoReply(payload=request.payload)

    def Count(self, request: Any, context: Any) -> Iterator[Any]:
        for number in range(request.n):
            yield probe_pb2.CountReply(number=number)

    def Sum(self, requests: Any, context: Any) -> Any:
        self.shown.append(repr(requests))
        return probe_pb2.SumReply(total=sum(request.value for request in requests))


def matches(pattern: str, shown: object) -> None:
    assert re.fullmatch(pattern, repr(shown)), repr(shown)


# ---- gRPC ---------------------------------------------------------------------------------------


def test_channels_and_callables() -> None:
    with testing.client({"probe": Probe.plugin(Servicer())}, name="prober") as client:
        channel, probe = client.dispense("probe")
        matches(r"<Channel to 'prober' at unix:/\S+, (ready|idle|connecting)>", channel)
        matches(r"<Channel to 'prober' at unix:/\S+, \w+>", client.channel)
        matches(r"<UnaryUnaryMultiCallable of /probe.Probe/Echo, <Channel to .*>>", probe.Echo)
        matches(r"<StreamStreamMultiCallable of /probe.Probe/Chat, <Channel .*>>", probe.Chat)
        channel.close()
        matches(r"<Channel to 'prober' at unix:/\S+, shut down>", channel)
    with rpc.insecure_channel("unix:/nowhere") as bare:
        matches(r"<Channel to unix:/nowhere, idle>", bare)
        matches(
            r"<UnaryUnaryMultiCallable of /a/\N{REPLACEMENT CHARACTER}, .*>",
            bare.unary_unary(b"/a/\xff"),
        )


def test_calls() -> None:
    servicer = Servicer()
    with testing.stub(Probe.plugin(servicer)) as probe:
        future = probe.Echo.future(probe_pb2.EchoRequest())
        future.result(60)
        matches(r"<Call of /probe.Probe/Echo, ended with OK>", future)
        replies = probe.Count(probe_pb2.CountRequest(n=1))
        assert repr(replies).startswith("<ResponseStream of /probe.Probe/Count, ")
        list(replies)
        matches(r"<ResponseStream of /probe.Probe/Count, ended with OK>", replies)
        _, call = probe.Echo.with_call(probe_pb2.EchoRequest())
        matches(r"<Call of /probe.Probe/Echo, ended with OK>", call)
        refused = probe.Echo.future(probe_pb2.EchoRequest(payload=b"refuse"))
        assert refused.exception(60) is not None
        matches(r"<Call of .*, ended with NOT_FOUND, details 'not here'>", refused)
        with pytest.raises(RpcError, match="not here"):
            refused.result()
        probe.Sum([probe_pb2.SumRequest(value=1)])
    assert re.fullmatch(
        r"<ServicerContext of /probe.Probe/Echo from \S+, active>", servicer.shown[0]
    )
    assert servicer.shown[-1] == "<requests of a call of /probe.Probe/Sum>"


def test_a_call_that_runs() -> None:
    with rpc.insecure_channel("unix:/nowhere") as channel:
        call = channel.unary_unary("/a/B").future(b"", wait_for_ready=True)
        matches(r"<Call of /a/B, running>", call)
        call.cancel()
        matches(r"<Call of /a/B, ended with CANCELLED, details '.*'>", call)


def test_servers_and_handlers() -> None:
    server = rpc.server()
    matches(r"<Server at no address, not started>", server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    matches(rf"<Server at 127\.0\.0\.1:{port}, serving>", server)
    server.stop(0).wait(60)
    matches(rf"<Server at 127\.0\.0\.1:{port}, stopped>", server)

    taken: list[Any] = []
    fake = type("Fake", (), {"add_generic_rpc_handlers": lambda self, given: taken.extend(given)})
    Probe.add_to_server(Servicer(), fake())
    assert repr(taken[0]).startswith("<GenericHandler of probe.Probe: /probe.Probe/")
    (handler, *_) = taken[0]._handlers.values()
    assert repr(handler).startswith("<MethodHandler ")

    plugin_server = Server(ServeConfig(plugins={"probe": Probe.plugin(Servicer())}))
    matches(r"<pygo_plugin.Server of 'probe', not started>", plugin_server)
    assert not plugin_server.serve()
    matches(r"<pygo_plugin.Server of 'probe', failed: Misconfigured plugin: .*>", plugin_server)
    matches(r"<pygo_plugin.aio.Server of no plugins, not started>", aio.Server(ServeConfig()))


def test_brokers() -> None:
    shown: list[str] = []

    class Brokered(Plugin):
        def grpc_client(self, broker: Any, channel: Any) -> Any:
            return broker

        def grpc_server(self, broker: Any, server: Any) -> None:
            shown.append(repr(broker))

    with testing.client({"b": Brokered()}, name="mine") as client:
        broker = client.dispense("b")
        matches(r"<broker.Broker of 'mine', serving \[\]>", broker)
        with broker.serve(Servicer()) as service_id:
            matches(rf"<broker.Broker of 'mine', serving \[{service_id}\]>", broker)
        serving = broker.serve(Servicer())
        matches(rf"<Serving of <BrokerServer for connection {serving.id}, serving>>", serving)
        serving.stop()
        matches(r"<Serving of <BrokerServer .*, stopped>>", serving)
    matches(r"<broker.Broker of 'mine', closed>", broker)
    assert shown
    assert shown[0].startswith("<broker.Broker")


def test_asyncio(peers: Any, handshake: Any, plugins: Any) -> None:
    async def main() -> None:
        async with aio.Client(
            peers.plugin("python"), handshake_config=handshake, plugins=plugins, name="mine"
        ) as client:
            channel, probe = await client.dispense("probe")
            matches(r"<aio.Channel to 'mine' at \S+, \w+>", channel)
            matches(r"<UnaryUnaryMultiCallable of /probe.Probe/Echo, <aio.Channel .*>>", probe.Echo)
            matches(r"<aio.Broker of 'mine', serving \[\]>", client.broker)
            call = probe.Echo(probe_pb2.EchoRequest())
            matches(r"<UnaryUnaryCall of /probe.Probe/Echo, running>", call)
            await call
            matches(r"<UnaryUnaryCall of /probe.Probe/Echo, ended with OK>", call)
            for live in (client, channel, call, client.broker):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    copy.copy(live)
            assert "timeout" in inspect.signature(probe.Echo).parameters

    asyncio.run(main())


def test_other_objects() -> None:
    assert repr(rpc.MemoryQuota(1 << 20)) == "MemoryQuota(1048576)"
    assert repr(rpc.SSLSessionCacheLRU(5)) == "SSLSessionCacheLRU(5)"
    matches(r"<ChannelCredentials>", rpc.ssl_channel_credentials())
    matches(r"<CallCredentials>", rpc.access_token_call_credentials("s3cret"))
    launch = Launch({"KEY": "s3cret"}, "/dir")
    assert repr(launch) == "Launch(env={'KEY': ...}, socket_dir='/dir')"
    matches(r"<BubblewrapRunner of 'plugin', not started>", BubblewrapRunner(["./plugin"]))
    file = io.BytesIO()
    matches(r"<gob.Encoder to <_io.BytesIO .*>>", gob.Encoder(file))
    matches(r"<gob.Decoder of <class 'int'> from <_io.BytesIO .*>>", gob.Decoder(file, int))
    matches(r"<gob.Decoder>", gob.Decoder())
    codec = gob.Codec(bytes, bytes, "binary", name="Id")
    assert repr(codec) == "Codec(<class 'bytes'>, <class 'bytes'>, 'binary', name='Id')"


# ---- Signatures ---------------------------------------------------------------------------------

OPTIONS = ["timeout", "metadata", "credentials", "wait_for_ready", "compression"]


def test_signatures_of_a_described_service() -> None:
    with rpc.insecure_channel("unix:/nowhere") as channel:
        probe = Probe.Stub(channel)
        echo = inspect.signature(probe.Echo)
        assert list(echo.parameters) == ["request", *OPTIONS]
        assert echo.parameters["request"].annotation is probe_pb2.EchoRequest
        assert echo.return_annotation is probe_pb2.EchoReply
        assert inspect.signature(probe.Count).return_annotation == Iterator[probe_pb2.CountReply]
        requests = inspect.signature(probe.Sum).parameters["request_iterator"]
        assert requests.annotation == Iterable[probe_pb2.SumRequest]
        echo.bind(probe_pb2.EchoRequest(), timeout=5)
        assert "one request" in str(probe.Echo.__doc__)
        assert "timeout is in seconds" in str(probe.Echo.__doc__)
        assert list(inspect.signature(probe.Echo.future).parameters) == ["request", *OPTIONS]


def test_signatures_of_other_callables() -> None:
    with rpc.insecure_channel("unix:/nowhere") as channel:
        signature = inspect.signature(channel.stream_stream("/a.Service/Method"))
        assert list(signature.parameters) == ["request_iterator", *OPTIONS]
        assert signature.return_annotation is inspect.Signature.empty
        # Of the same name as a described method, with other messages.
        other = inspect.signature(channel.unary_stream("/probe.Probe/Echo"))
        assert other.parameters["request"].annotation is inspect.Parameter.empty
        generated = inspect.signature(kv_pb2_grpc.KVStub(channel).Get)
        assert list(generated.parameters) == ["request", *OPTIONS]


def test_signatures_for_asyncio() -> None:
    channel = aio.insecure_channel("unix:/nowhere")
    probe = Probe.Stub(channel)
    echo = inspect.signature(probe.Echo)
    assert echo.parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY
    assert echo.return_annotation == Awaitable[probe_pb2.EchoReply]
    chat = inspect.signature(probe.Chat)
    assert chat.parameters["request_iterator"].default is None
    assert chat.return_annotation == AsyncIterator[probe_pb2.ChatMessage]


class Greeter:
    """Greets."""

    def greet(self, name: str) -> str:
        """Greet somebody."""
        return f"Hello, {name}!"

    def shout(self, text: str = "nothing", times: int = 2) -> str:
        return text.upper()

    def wait(self, timeout: float) -> float:
        return timeout

    def total(self, number: int, base: int = 7) -> int:
        return number + base

    def stop(self) -> None:
        pass


def test_signatures_of_net_rpc() -> None:
    with testing.client({"greeter": netrpc.plugin(Greeter)}, name="mine") as client:
        greeter = client.dispense("greeter")
        shown = {name: str(inspect.signature(getattr(greeter, name))) for name in ("greet", "stop")}
        assert shown["greet"] == "(name: 'str', *, timeout: 'float | None' = None) -> 'str'"
        assert shown["stop"] == "(*, timeout: 'float | None' = None) -> 'None'"
        assert "text: 'str' = 'nothing', *," in str(inspect.signature(greeter.shout))
        assert greeter.shout() == "NOTHING"
        assert greeter.wait(0.5, timeout=60) == 0.5
        assert greeter.total(1) == 8
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'number'"):
            greeter.total()
        rpc_client = greeter.rpc_client
        matches(r"<netrpc.Client to 'greeter' of 'mine'>", rpc_client)
        matches(r"<netrpc.MuxBroker, connected>", client.broker)
        with client.broker.serve(Greeter()) as service_id:
            pass
        matches(rf"<net/rpc connection {service_id + 1}>", client.broker.serve(Greeter()))
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copy.deepcopy(rpc_client)
        rpc_client.close()
        matches(r"<netrpc.Client to 'greeter' of 'mine', closed>", rpc_client)


# ---- Copies -------------------------------------------------------------------------------------

CONFIGS = [
    HandshakeConfig(1, "KEY", "value"),
    Cmd(["plugin", "argument"], env={"A": "b"}, dir="/tmp"),
    ReattachConfig("grpc", "unix", "/s", 7, True, 3, 12345),
    ClientConfig(
        cmd="plugin", start_timeout=1.5, unix_socket_group=7, logger=logging.getLogger("x")
    ),
    ServeConfig(handshake_config=HandshakeConfig(2), max_workers=3),
    SecureConfig(b"x" * 32, max_size=5),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_configurations_are_copied(config: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(config, protocol)) == config
    for made in (copy.copy(config), copy.deepcopy(config)):
        assert made == config
        assert type(made) is type(config)


def test_a_copy_is_independent() -> None:
    config = ClientConfig(cmd="plugin", plugins={"kv": Nothing()})
    shallow, deep = copy.copy(config), copy.deepcopy(config)
    shallow.kill_timeout = 9
    assert config.kill_timeout != 9
    assert shallow.plugins is config.plugins
    assert deep.plugins is not config.plugins
    deep.cmd().args.append("more")
    assert config.cmd().args == ["plugin"]


def test_subclasses_of_configurations_are_copied() -> None:
    config = Handshake(5, "KEY", "value")
    config.note = "mine"
    for made in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert (type(made), made.note, made.protocol_version) == (Handshake, "mine", 5)


class Handshake(HandshakeConfig):
    note = ""


class Nothing(Plugin):
    pass


def test_tls_configurations_are_copied() -> None:
    ours = Authority("ours").issue("plugin", "localhost")
    config = TLSConfig(certificate=ours.chain, key=ours.key)
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert copy.copy(TLSConfig()) == TLSConfig()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ClientConfig(cmd="p", stderr=sys.__stderr__), r"ClientConfig.stderr cannot be {}: "),
        (
            ClientConfig(cmd="p", on_exit=lambda *_: None),
            r"ClientConfig.on_exit cannot be pickled: ",
        ),
        (ServeConfig(plugins={"p": Probe.plugin()}), r"ServeConfig.plugins cannot be pickled: "),
    ],
)
def test_what_cannot_be_pickled_is_named(config: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message.format("pickled")):
        pickle.dumps(config)
    if "{}" in message:
        with pytest.raises(TypeError, match=message.format("copied")):
            copy.deepcopy(config)
    else:
        copy.deepcopy(config)


def test_services_are_shared() -> None:
    assert copy.deepcopy(Probe) is copy.copy(Probe) is Probe
    with pytest.raises(TypeError, match="call service\\(\\) in each process"):
        pickle.dumps(Probe)


def test_live_objects_refuse_to_be_copied() -> None:
    with testing.client({"probe": Probe.plugin(Servicer())}) as client:
        channel, probe = client.dispense("probe")
        call = probe.Echo.future(probe_pb2.EchoRequest())
        server = rpc.server()
        for live in (client, channel, call, server, client.broker, Server(ServeConfig())):
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=r"<.*> cannot be copied or pickled, since"):
                    copied(live)
        with pytest.raises(TypeError, match="cannot pickle"):
            copy.copy(probe.Echo)
        call.result(60)
        server.stop(None)


def test_limits_are_copied() -> None:
    limits = gob.Limits(depth=5)
    assert repr(copy.copy(limits)) == repr(pickle.loads(pickle.dumps(limits))) == "Limits(depth=5)"


def test_help_of_callables() -> None:
    with rpc.insecure_channel("unix:/nowhere") as channel:
        shown = pydoc.render_doc(type(channel.unary_unary("/a/B")))
        assert "timeout is in seconds" in shown
    assert "rpc Echo(probe.EchoRequest) returns (probe.EchoReply)" in pydoc.render_doc(Probe.Stub)
