"""Our host for asyncio."""

from __future__ import annotations

import asyncio
import logging

import probe_pb2
import probe_pb2_grpc
from measure import COOKIE, measure_calls_async, parse_arguments, report
from messages import measure_stream_async
from opened import hold_open_async

from pygo_plugin import HandshakeConfig, Plugin, aio


class ProbePlugin(Plugin):
    def client_class(self):
        return probe_pb2_grpc.ProbeStub


async def main() -> None:
    arguments = parse_arguments()
    logger = logging.getLogger("bench.off")
    logger.disabled = True
    async with aio.Client(
        arguments.plugin,
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": ProbePlugin()},
        logger=logger,
    ) as client:
        _, stub = await client.dispense("probe")
        if arguments.open:
            await hold_open_async(stub, arguments.open)
            return
        request = probe_pb2.EchoRequest(payload=bytes(arguments.size), delay_ms=arguments.delay_ms)
        report(
            calls=await measure_calls_async(lambda: stub.Echo(request), arguments)
            if arguments.calls
            else None,
            stream=await measure_stream_async(stub, arguments) if arguments.messages else None,
        )


if __name__ == "__main__":
    asyncio.run(main())
