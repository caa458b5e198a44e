"""What is of this package is what grpcio's types say. An unused "type: ignore" is an error, too."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any, Protocol, cast

import grpc
import probe_pb2
from typing_extensions import assert_type

from pygo_plugin import Client, RpcError, StatusCode, aio, netrpc, rpc
from pygo_plugin.broker import Broker
from pygo_plugin.stubs import (
    AsyncStreamStream,
    AsyncStreamUnary,
    AsyncUnaryStream,
    AsyncUnaryUnary,
    ServicerContext,
    UnaryStream,
    UnaryUnary,
)


class Stub(Protocol):
    Echo: UnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]
    Count: UnaryStream[probe_pb2.CountRequest, probe_pb2.CountReply]


class AsyncStub(Protocol):
    Echo: AsyncUnaryUnary[probe_pb2.EchoRequest, probe_pb2.EchoReply]
    Count: AsyncUnaryStream[probe_pb2.CountRequest, probe_pb2.CountReply]
    Sum: AsyncStreamUnary[probe_pb2.SumRequest, probe_pb2.SumReply]
    Chat: AsyncStreamStream[probe_pb2.ChatMessage, probe_pb2.ChatMessage]


# ---- Channels and servers ----


def takes_channel(channel: grpc.Channel) -> None: ...
def takes_aio_channel(channel: grpc.aio.Channel) -> None: ...
def takes_server(server: grpc.Server) -> None: ...
def takes_aio_server(server: grpc.aio.Server) -> None: ...


def pass_on(client: Client, broker: Broker) -> None:
    takes_channel(client.channel)
    takes_channel(client.new_channel())
    takes_channel(broker.dial(5))
    takes_channel(rpc.insecure_channel("unix:/path"))
    takes_channel(aio.insecure_channel("unix:/path"))  # type: ignore[arg-type]  # pyright: ignore
    takes_server(rpc.server())
    takes_server(broker.accept(5))
    with client.new_channel() as channel:
        echo = channel.unary_unary(
            "/probe.Probe/Echo",
            probe_pb2.EchoRequest.SerializeToString,
            probe_pb2.EchoReply.FromString,
        )
        assert_type(echo(probe_pb2.EchoRequest(), metadata=[("a", "b")]), probe_pb2.EchoReply)
        raw = channel.unary_unary("/probe.Probe/Echo")
        assert_type(raw(b""), Any)
    assert_type(broker.open_io(5), io.BufferedReader)
    broker.open_io(5).peek()
    broker.open_io(5, "wb").write(b"")
    broker.open_io(5, "wb").peek()  # type: ignore[attr-defined]  # pyright: ignore


def pass_on_netrpc(broker: netrpc.MuxBroker) -> None:
    broker.open_io(5).peek()
    assert_type(broker.open_io(5, "wb"), io.BufferedWriter)


async def pass_on_async(client: aio.Client, broker: aio.Broker) -> None:
    takes_aio_channel(client.channel)
    takes_aio_channel(aio.insecure_channel("unix:/path"))
    takes_aio_server(aio.server())
    takes_aio_server(broker.accept(5))
    await client.channel.unary_unary("/probe.Probe/Echo")(b"")


# ---- Errors and status codes ----


def failed(stub: Stub) -> None:
    try:
        stub.Echo(probe_pb2.EchoRequest())
    except RpcError as error:
        assert_type(error.code(), grpc.StatusCode)
        if error.code() == grpc.StatusCode.NOT_FOUND or error.code() is StatusCode.ABORTED:
            print(error.details())
        takes_error(error)
        takes_call(error)


def takes_error(error: grpc.RpcError) -> None: ...
def takes_call(call: grpc.Call) -> None: ...


# ---- Calls ----


def ask(stub: Stub) -> None:
    future = stub.Echo.future(probe_pb2.EchoRequest())
    future.add_done_callback(lambda done: print(done.result()))
    future.add_callback(lambda: None)
    assert_type(future.code(), grpc.StatusCode)
    assert_type(future.cancelled(), bool)
    assert_type(future.exception(5) is None, bool)
    assert_type(future.result(5), probe_pb2.EchoReply)
    replies = stub.Count(probe_pb2.CountRequest())
    replies.add_done_callback(lambda done: None)
    assert_type(replies.code() == grpc.StatusCode.OK, bool)
    assert_type(replies.cancel(), bool)


async def ask_async(stub: AsyncStub) -> None:
    call = stub.Echo(probe_pb2.EchoRequest(), timeout=5)
    assert_type(call.cancel(), bool)
    assert_type(await call.code(), grpc.StatusCode)
    call.add_done_callback(lambda done: print(done.cancelled()))
    assert_type(await call, probe_pb2.EchoReply)
    call.reply  # type: ignore[attr-defined]  # pyright: ignore

    replies = stub.Count(probe_pb2.CountRequest())
    async for reply in replies:
        assert_type(reply, probe_pb2.CountReply)
    assert_type(await replies.details(), str)
    replies.cancel()

    sums = stub.Sum()
    await sums.write(probe_pb2.SumRequest(value=1))
    await sums.write(probe_pb2.EchoRequest())  # type: ignore[arg-type]  # pyright: ignore
    await sums.done_writing()
    assert_type(await sums, probe_pb2.SumReply)

    chat = stub.Chat(messages())
    if await chat.read() is aio.EOF:
        assert_type(await chat.code() == grpc.StatusCode.OK, bool)


async def messages() -> AsyncIterator[probe_pb2.ChatMessage]:
    yield probe_pb2.ChatMessage()


# ---- Contexts ----


def takes_context(context: grpc.ServicerContext) -> None: ...
def takes_aio_context(context: grpc.aio.ServicerContext[Any, Any]) -> None: ...


class Servicer:
    def Echo(self, request: probe_pb2.EchoRequest, context: ServicerContext) -> Any:
        takes_context(context)
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_trailing_metadata([("key", "value")])
        if context.time_remaining() is None or not context.is_active():
            context.abort(grpc.StatusCode.ABORTED, "over")
        return probe_pb2.EchoReply()


class AsyncServicer:
    async def Echo(self, request: probe_pb2.EchoRequest, context: aio.ServicerContext) -> Any:
        takes_aio_context(context)
        await context.abort(StatusCode.ABORTED, "over")


# ---- Old code, with casts for what grpcio's own types lacked ----


def cast_call(error: grpc.RpcError) -> str:
    return cast(grpc.Call, error).details()
