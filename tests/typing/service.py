"""What type checkers know of services. An unused "type: ignore" is an error, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, Protocol

import kv_pb2
import probe_pb2
from typing_extensions import assert_type

from pygo_plugin import (
    Client,
    Plugin,
    RpcError,
    Service,
    ServicePlugin,
    StatusCode,
    service,
)
from pygo_plugin.stubs import (
    AsyncUnaryUnary,
    Replies,
    ServicerContext,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
)

# ---- Without more ado: a service whose stubs have any method ----

KV = service(kv_pb2, "KV")
assert_type(KV, Service[Any])
assert_type(KV.name, str)
assert_type(KV.plugin(), ServicePlugin)
plugin: Plugin = KV.plugin(lambda: KV.Servicer())
KV.Stub(None).Get(kv_pb2.GetRequest(), timeout=5)
kind: int = KV.methods["Get"].kind  # type: ignore[assignment]  # pyright: ignore
service(kv_pb2, 5)  # type: ignore[arg-type]  # pyright: ignore


# ---- Described ----


class ProbeStub(Protocol):
    Echo: UnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]
    Count: UnaryStream[probe_pb2.CountRequest, probe_pb2.CountReply]
    Sum: StreamUnary[probe_pb2.SumRequest, probe_pb2.SumReply]
    Chat: StreamStream[probe_pb2.ChatMessage, probe_pb2.ChatMessage]


class AsyncProbeStub(Protocol):
    Echo: AsyncUnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]


Probe: Service[ProbeStub] = service(probe_pb2)
assert_type(Probe.Stub, Callable[[Any], ProbeStub])


def use(client: Client) -> None:
    probe = Probe.Stub(client.channel)
    assert_type(probe, ProbeStub)
    assert_type(probe.Echo(probe_pb2.EchoRequest(), timeout=5), probe_pb2.EchoReply)
    assert_type(probe.Echo.future(probe_pb2.EchoRequest()).result(5), probe_pb2.EchoReply)
    reply, _ = probe.Echo.with_call(probe_pb2.EchoRequest(), metadata=[("key", "value")])
    assert_type(reply, probe_pb2.EchoReply)
    replies = probe.Count(probe_pb2.CountRequest(n=1))
    assert_type(replies, Replies[probe_pb2.CountReply])
    assert_type([one.number for one in replies], list[int])
    replies.cancel()
    assert_type(probe.Sum([probe_pb2.SumRequest(value=1)]).total, int)
    assert_type(next(probe.Chat(iter([probe_pb2.ChatMessage()]))), probe_pb2.ChatMessage)

    probe.Echo(probe_pb2.SumRequest())  # type: ignore[arg-type]  # pyright: ignore
    probe.Echo(probe_pb2.EchoRequest(), deadline=5)  # type: ignore[call-arg]  # pyright: ignore
    probe.Ecco(probe_pb2.EchoRequest())  # type: ignore[attr-defined]  # pyright: ignore


async def use_async(service: Service[AsyncProbeStub], channel: Any) -> None:
    reply = await service.Stub(channel).Echo(probe_pb2.EchoRequest(), timeout=5)
    assert_type(reply, probe_pb2.EchoReply)


# ---- A servicer ----


class ProbeServicer:
    def Echo(self, request: probe_pb2.EchoRequest, context: ServicerContext) -> Any:
        context.set_trailing_metadata([("key", "value")])
        context.abort(StatusCode.NOT_FOUND, "not here")

    def Count(
        self, request: probe_pb2.CountRequest, context: ServicerContext
    ) -> Iterator[probe_pb2.CountReply]:
        yield probe_pb2.CountReply(number=1)


class Mine(ServicePlugin):
    def __init__(self) -> None:
        super().__init__(Probe, ProbeServicer())


# ---- Errors ----


def failed(error: RpcError) -> str:
    assert_type(error.code(), StatusCode)
    if error.code() is StatusCode.NOT_FUND:  # type: ignore[attr-defined]  # pyright: ignore
        return ""
    return f"{error.code().name}: {error.details()} {error.trailing_metadata()}"
