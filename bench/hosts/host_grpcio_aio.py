"""A host on grpcio's asyncio flavour, as one writes it by hand for a single plugin."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import probe_pb2
import probe_pb2_grpc
from by_hand import PATIENCE, UNLIMITED, launch, reap
from measure import measure_calls_async, parse_arguments, report
from messages import measure_stream_async
from opened import hold_open_async


async def main() -> None:
    arguments = parse_arguments()
    process, target = launch(arguments.plugin)
    try:
        async with grpc.aio.insecure_channel(target, options=UNLIMITED) as channel:
            await use(channel, arguments)
            controller = grpc_controller_pb2_grpc.GRPCControllerStub(channel)
            try:
                await controller.Shutdown(grpc_controller_pb2.Empty(), timeout=PATIENCE)
            except grpc.RpcError:
                pass  # the plugin may be quicker to go than to answer
    finally:
        reap(process)


async def use(channel: grpc.aio.Channel, arguments) -> None:
    stub = probe_pb2_grpc.ProbeStub(channel)
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
