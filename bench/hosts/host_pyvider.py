"""The host of PyPI's pyvider-rpcplugin."""

from __future__ import annotations

import asyncio
import time

import probe_pb2
import probe_pb2_grpc
from measure import COOKIE, launch_result, measure_calls_async, parse_arguments, report
from pyvider.rpcplugin import configure, plugin_client


async def calls(arguments) -> dict:
    async with plugin_client(arguments.plugin) as client:
        echo = probe_pb2_grpc.ProbeStub(client.grpc_channel).Echo
        request = probe_pb2.EchoRequest(payload=bytes(arguments.size), delay_ms=arguments.delay_ms)
        return await measure_calls_async(lambda: echo(request), arguments)


async def launches(arguments) -> dict:
    replies, kills = [], []
    for _ in range(arguments.launch):
        client = plugin_client(arguments.plugin)
        begin = time.perf_counter()
        await client.start()
        await probe_pb2_grpc.ProbeStub(client.grpc_channel).Echo(probe_pb2.EchoRequest())
        replies.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await client.shutdown_plugin()
        await client.close()
        kills.append(time.perf_counter() - begin)
    return launch_result(replies, kills)


async def main() -> None:
    arguments = parse_arguments()
    key, value = COOKIE
    configure(magic_cookie=value, auto_mtls=False, magic_cookie_key=key)
    report(
        calls=await calls(arguments) if arguments.calls else None,
        launch=await launches(arguments) if arguments.launch else None,
    )


if __name__ == "__main__":
    asyncio.run(main())
