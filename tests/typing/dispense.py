"""What type checkers know of what hosts get. An unused "type: ignore" is an error, too."""

from __future__ import annotations

from typing import Any, Optional, Protocol

import grpc
import probe_pb2
import probe_pb2_grpc
from typing_extensions import assert_type

from pygo_plugin import Client, ClientConfig, Plugin, Service, aio, netrpc, service, testing
from pygo_plugin.broker import Broker
from pygo_plugin.stubs import AsyncUnaryUnary, UnaryUnary


class ProbeStub(Protocol):
    Echo: UnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]


class AsyncProbeStub(Protocol):
    Echo: AsyncUnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]


Probe: Service[ProbeStub] = service(probe_pb2)
AsyncProbe: Service[AsyncProbeStub] = service(probe_pb2)


class Counter:
    def put(self, key: str) -> int:
        return len(key)


class AsyncCounter:
    async def put(self, key: str) -> int:
        return len(key)


class StubPlugin(Plugin[tuple[grpc.Channel, ProbeStub]]):
    def client_class(self) -> Any:
        return probe_pb2_grpc.ProbeStub


class CounterPlugin(Plugin[Counter]):
    def grpc_client(self, broker: Broker, channel: grpc.Channel) -> Counter:
        return Counter()


class BothPlugin(Plugin[Counter, AsyncCounter]):
    def grpc_client(self, broker: Any, channel: Any) -> Counter | AsyncCounter:
        return AsyncCounter() if isinstance(channel, grpc.aio.Channel) else Counter()


class OldPlugin(Plugin):
    """Says nothing of what it gives: type checkers let it have anything."""

    def client_class(self) -> Any:
        return probe_pb2_grpc.ProbeStub


class WrongPlugin(Plugin[Counter]):
    def client(self, client_conn: Client) -> str:  # type: ignore[override]  # pyright: ignore
        return "no counter"


# ---- By name: plugins of one type ----

with Client("p", plugins={"probe": Probe.plugin()}) as client:
    channel, probe = client.dispense("probe")
    assert_type(probe, ProbeStub)
    assert_type(probe.Echo(probe_pb2.EchoRequest(), timeout=5), probe_pb2.EchoReply)
    probe.Ecco(probe_pb2.EchoRequest())  # type: ignore[attr-defined]  # pyright: ignore
    probe.Echo(probe_pb2.SumRequest())  # type: ignore[arg-type]  # pyright: ignore
    grpc.channel_ready_future(channel).result(5)
    grpc.intercept_channel(client.channel)
    channel.close()

assert_type(Client("p", plugins={"c": CounterPlugin()}).dispense("c"), Counter)
assert_type(Client("p", plugins={"s": StubPlugin()}).dispense("s"), tuple[grpc.Channel, ProbeStub])
assert_type(Client("p", plugins={"b": BothPlugin()}).dispense("b"), Counter)
assert_type(Client("p", plugins={"o": OldPlugin()}).dispense("o"), Any)
assert_type(Client("p", plugins={"p": service(probe_pb2).plugin()}).dispense("p")[1], Any)
assert_type(Client("p").dispense("x"), Any)
config = ClientConfig(cmd="p", plugins={"c": CounterPlugin()})
assert_type(Client(config).dispense("c"), Counter)
later = ClientConfig()
later.plugins["c"] = CounterPlugin()
assert_type(Client(later).dispense("c"), Any)
versions = {1: {"c": CounterPlugin()}, 2: {"c": CounterPlugin()}}
assert_type(Client("p", versioned_plugins=versions).dispense("c"), Counter)


class Host:
    def __init__(self) -> None:
        self.client: Optional[Client] = None
        self.counters: Client[Counter] = Client("p", plugins={"c": CounterPlugin()})
        assert_type(self.counters.dispense("c"), Counter)

    def use(self, client: Client) -> None:
        assert_type(client.dispense("c"), Any)


# ---- By the plugin itself: plugins of different types ----

COUNTER, PROBE, OLD = CounterPlugin(), Probe.plugin(), OldPlugin()
several = Client("p", plugins={"counter": COUNTER, "probe": PROBE, "old": OLD})
assert_type(several.dispense(COUNTER), Counter)
assert_type(several.dispense(PROBE)[1], ProbeStub)
assert_type(several.dispense(OLD), Any)
several.dispense(CounterPlugin)  # type: ignore[call-overload]  # pyright: ignore
several.dispense(5)  # type: ignore[call-overload]  # pyright: ignore
plugins: dict[str, Plugin] = {"counter": COUNTER, "probe": PROBE}
assert_type(Client("p", plugins=plugins).dispense("counter"), Any)
Client("p", plugins={"counter": Counter()})  # type: ignore[dict-item]  # pyright: ignore


# ---- asyncio ----


async def use_async() -> None:
    async with aio.Client("p", plugins={"probe": AsyncProbe.plugin()}) as client:
        channel, probe = await client.dispense("probe")
        assert_type(await probe.Echo(probe_pb2.EchoRequest()), probe_pb2.EchoReply)
        await channel.channel_ready()
        await channel.close()
    assert_type(await aio.Client("p", plugins={"b": BothPlugin()}).dispense("b"), AsyncCounter)
    assert_type(await aio.Client("p", plugins={"o": OldPlugin()}).dispense("o"), Any)
    assert_type(await aio.Client("p").dispense("x"), Any)
    config = ClientConfig(cmd="p", plugins={"b": BothPlugin()})
    assert_type(await aio.Client(config).dispense("b"), AsyncCounter)
    several = aio.Client("p", plugins={"b": BothPlugin(), "c": COUNTER})
    assert_type(await several.dispense(COUNTER), Counter)
    several.dispense(5)  # type: ignore[call-overload]  # pyright: ignore


# ---- net/rpc ----


class Greeter:
    def greet(self, name: str, *, timeout: Optional[float] = None) -> str:
        return f"Hello, {name}"


class GreeterPlugin(netrpc.Plugin[Counter]):
    def client(self, broker: Any, rpc_client: Any) -> Counter:
        return Counter()


assert_type(Client("p", plugins={"g": netrpc.plugin(Greeter)}).dispense("g"), Any)
GREETER: netrpc.Plugin[Greeter] = netrpc.plugin(Greeter)
greeter = Client("p", plugins={"g": GREETER}).dispense("g")
assert_type(greeter.greet("you", timeout=5), str)
greeter.greet(5)  # type: ignore[arg-type]  # pyright: ignore
assert_type(Client("p", plugins={"g": GreeterPlugin()}).dispense("g"), Counter)


# ---- In tests ----

with testing.stub(Probe.plugin()) as tested:
    assert_type(tested, ProbeStub)
with testing.stub({"probe": StubPlugin()}, "probe") as tested:
    assert_type(tested, ProbeStub)
with testing.stub(CounterPlugin()) as counter:
    assert_type(counter, Counter)
with testing.stub(OldPlugin()) as old:
    assert_type(old, Any)
with testing.client({"c": CounterPlugin()}) as started:
    assert_type(started, Client[Counter])
