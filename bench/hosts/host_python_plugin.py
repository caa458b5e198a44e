"""The host of PyPI's python-plugin."""

from __future__ import annotations

import asyncio
import time

import probe_pb2
from grpclib.client import UnaryUnaryMethod
from measure import COOKIE, launch_result, measure_calls_async, parse_arguments, report
from pyplugin import Client, ClientConfig, HandshakeConfig, Plugin


class EchoPlugin(Plugin):
    def servicers(self, broker):
        raise NotImplementedError("this is the host's side")

    def stub(self, broker, channel):
        return UnaryUnaryMethod(
            channel, "/probe.Probe/Echo", probe_pb2.EchoRequest, probe_pb2.EchoReply
        )


def make_client(command: list[str]) -> Client:
    return Client(
        ClientConfig(
            handshake_config=HandshakeConfig(1, *COOKIE),
            plugins={"probe": EchoPlugin()},
            cmd=command,
            auto_mtls=False,
        )
    )


async def calls(arguments) -> dict:
    async with make_client(arguments.plugin) as client:
        echo = client.dispense("probe")
        request = probe_pb2.EchoRequest(payload=bytes(arguments.size), delay_ms=arguments.delay_ms)
        return await measure_calls_async(lambda: echo(request), arguments)


async def launches(arguments) -> dict:
    replies, kills = [], []
    for _ in range(arguments.launch):
        client = make_client(arguments.plugin)
        begin = time.perf_counter()
        await client.start()
        await client.dispense("probe")(probe_pb2.EchoRequest())
        replies.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await client.kill()
        kills.append(time.perf_counter() - begin)
    return launch_result(replies, kills)


async def main() -> None:
    arguments = parse_arguments()
    report(
        calls=await calls(arguments) if arguments.calls else None,
        launch=await launches(arguments) if arguments.launch else None,
    )


if __name__ == "__main__":
    asyncio.run(main())
