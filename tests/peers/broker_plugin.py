#!/usr/bin/env python3
"""A plugin that calls back, and is called back, through brokers. Its methods take and give bytes.

The service is broker.Test, in the plugin and, under brokered ids, on either side. The Go plugin
serves it too, see internal/peer/broker.go.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from typing import Any

from pygo_plugin_peer import HANDSHAKE, GrpcioServer, tls_provider

from pygo_plugin import Plugin, RpcError, ServeConfig, Server, aio, serve
from pygo_plugin._grpc.handlers import MethodHandler

SERVICE = "broker.Test"


def add(server: Any, **methods: Any) -> None:
    """Serve functions of the request alone."""

    def handler(method: Any) -> MethodHandler:
        if asyncio.iscoroutinefunction(method):

            async def answer_later(request: bytes, context: Any) -> bytes:
                reply: bytes = await method(request)
                return reply

            return MethodHandler(unary_unary=answer_later)

        def answer(request: bytes, context: Any) -> bytes:
            reply: bytes = method(request)
            return reply

        return MethodHandler(unary_unary=answer)

    server.add_registered_method_handlers(
        SERVICE, {name: handler(method) for name, method in methods.items()}
    )


class Test:
    __test__ = False  # nothing for pytest
    """A stub."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def __getattr__(self, name: str) -> Any:
        return self.channel.unary_unary(f"/{SERVICE}/{name}")


def add_all(server: Any, prefix: bytes) -> None:
    """What either side serves under brokered ids: three services."""
    import kv_pb2_grpc
    import probe_pb2_grpc
    from servicers import KVServicer, ProbeServicer

    add(server, Echo=lambda data: prefix + data)
    kv_pb2_grpc.add_KVServicer_to_server(KVServicer(), server)
    probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(), server)


def resources() -> list[int]:
    """How many descriptors and threads this process has, and the memory in KiB."""
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[1])
    return [descriptors, threads, pages * os.sysconf("SC_PAGE_SIZE") // 1024]


class BrokerPlugin(Plugin):
    def grpc_client(self, broker: Any, channel: Any) -> Any:
        return broker, Test(channel)

    def grpc_server(self, broker: Any, server: Any) -> None:
        kept: dict[int, Any] = {}

        def call_back(request: bytes) -> bytes:
            """Dial the id, and call Echo there."""
            channel = broker.dial(int(request))
            with channel:
                reply: bytes = Test(channel).Echo(request, timeout=10)
            return reply

        def keep(register: Any) -> bytes:
            service_id = broker.next_id()
            kept[service_id] = broker.accept_and_serve(service_id, register)
            return b"%d" % service_id

        def serve_echo(request: bytes) -> bytes:
            return keep(lambda server: add(server, Echo=lambda data: b"plugin: " + data))

        def serve_all(request: bytes) -> bytes:
            return keep(lambda server: add_all(server, b"plugin: "))

        def stop(request: bytes) -> bytes:
            kept.pop(int(request)).stop(None)
            return b""

        def call_all(request: bytes) -> bytes:
            from exercise import exercise

            with broker.dial(int(request)) as channel:
                return exercise(channel).encode()

        def nest(request: bytes) -> bytes:
            """Call the host's Nest, give it an id to call Echo of."""

            def register(server: Any) -> None:
                add(server, Echo=lambda data: b"innermost: " + data)

            with broker.serve(register) as service_id:
                stub = broker.stub(int(request), Test)
                reply: bytes = stub.Nest(b"%d" % service_id, timeout=10)
                stub.channel.close()
            return reply

        def announce_only(request: bytes) -> bytes:
            service_id = broker.next_id()
            kept[service_id] = broker.accept(service_id)
            return b"%d" % service_id

        def read_file(request: bytes) -> bytes:
            with broker.open_io(int(request)) as file:
                data: bytes = file.read()
            return data

        def write_file(request: bytes) -> bytes:
            service_id, data = request.split(b" ", 1)
            with broker.open_io(int(service_id), "wb") as file:
                for start in range(0, len(data), 1000):
                    file.write(data[start : start + 1000])
            return b""

        def dial_error(request: bytes) -> bytes:
            try:
                broker.dial(int(request), 0.1)
            except Exception as error:
                return f"{type(error).__name__}: {error}".encode()
            return b"no error"

        def hang(request: bytes) -> bytes:
            stub = broker.stub(int(request), Test)
            reply: bytes = stub.Hang(b"", timeout=60)
            return reply

        def describe_ends(request: bytes) -> bytes:
            """How Hang ends under the id, and then Echo, each on a line."""
            stub = broker.stub(int(request), Test)
            lines = []
            for method in (stub.Hang, stub.Echo):
                try:
                    method(b"", timeout=60)
                except RpcError as error:
                    lines.append(f"{error.code()} {error.details()}")
            return "\n".join(lines).encode()

        def abandon(request: bytes) -> bytes:
            """End the first connection alone: what the broker has made goes on."""
            broker._disconnect_all = lambda: None
            server.stop(None)
            return b""

        add(
            server,
            Echo=lambda data: data,
            CallBack=call_back,
            Serve=serve_echo,
            ServeAll=serve_all,
            Stop=stop,
            Exercise=call_all,
            Nest=nest,
            Announce=announce_only,
            ReadFile=read_file,
            WriteFile=write_file,
            DialError=dial_error,
            Hang=hang,
            DescribeEnds=describe_ends,
            Abandon=abandon,
            Resources=lambda data: b"%d %d %d" % tuple(resources()),
            Exit=lambda data: os._exit(7),
        )


class AioBrokerPlugin(BrokerPlugin):
    def grpc_server(self, broker: Any, server: Any) -> None:
        async def call_back(request: bytes) -> bytes:
            async with await broker.dial(int(request)) as channel:
                reply: bytes = await Test(channel).Echo(request, timeout=10)
            return reply

        async def nest(request: bytes) -> bytes:
            async def echo(data: bytes) -> bytes:
                return b"innermost: " + data

            async with broker.serve(lambda server: add(server, Echo=echo)) as service_id:
                stub = await broker.stub(int(request), Test)
                reply: bytes = await stub.Nest(b"%d" % service_id, timeout=10)
                await stub.channel.close()
            return reply

        async def read_file(request: bytes) -> bytes:
            async with await broker.open_io(int(request)) as file:
                data: bytes = await file.read()
            return data

        async def write_file(request: bytes) -> bytes:
            service_id, data = request.split(b" ", 1)
            async with await broker.open_io(int(service_id), "wb") as file:
                await file.write(data)
            return b""

        async def describe_ends(request: bytes) -> bytes:
            stub = await broker.stub(int(request), Test)
            lines = []
            for method in (stub.Hang, stub.Echo):
                try:
                    await method(b"", timeout=60)
                except RpcError as error:
                    lines.append(f"{error.code()} {error.details()}")
            return "\n".join(lines).encode()

        add(
            server,
            CallBack=call_back,
            Nest=nest,
            ReadFile=read_file,
            WriteFile=write_file,
            DescribeEnds=describe_ends,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grpcio", action="store_true")
    parser.add_argument("--max-workers", type=int, default=None)
    parser.add_argument("--network", default="unix")
    parser.add_argument("--aio", action="store_true")
    parser.add_argument("--linger", action="store_true", help="do not end by itself")
    parser.add_argument("--config", default="{}", help="more for ServeConfig, as JSON")
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--tls-{name}")
    arguments = parser.parse_args()
    plugin = AioBrokerPlugin() if arguments.aio else BrokerPlugin()
    config = ServeConfig(
        handshake_config=HANDSHAKE,
        plugins={"test": plugin},
        max_workers=arguments.max_workers,
        network=arguments.network,
        tls_provider=tls_provider(arguments) if arguments.tls_cert else None,
        **json.loads(arguments.config),
    )
    if arguments.aio:
        asyncio.run(aio.serve(config))
    elif arguments.grpcio:
        server = GrpcioServer(config)
        if not server.serve(wait=True):
            sys.exit(server.error_msg)
    elif arguments.linger:
        server = Server(config)
        assert server.serve()
        threading.Event().wait()
    else:
        serve(config)


if __name__ == "__main__":
    sys.exit(main())
