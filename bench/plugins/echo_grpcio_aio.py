"""A plugin on grpcio's asyncio flavour by hand, with no more than a host needs."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile

import grpc.aio
import grpc_controller_pb2
import grpc_controller_pb2_grpc
import probe_pb2_grpc
from echo_aio import EchoServicer
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

LIFETIME = 600  # seconds, so that no benchmark leaves a process behind


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    def __init__(self):
        self.stop = asyncio.Event()

    async def Shutdown(self, request, context):
        self.stop.set()
        return grpc_controller_pb2.Empty()


async def main():
    if os.environ.get("PYGO_TEST_COOKIE") != "pygo":
        sys.exit("This is a plugin, start it from its host.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    controller = Controller()
    probe_pb2_grpc.add_ProbeServicer_to_server(EchoServicer(), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(controller, server)
    checks = health.aio.HealthServicer()
    await checks.set("plugin", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    directory = tempfile.mkdtemp(prefix="plugin")
    address = os.path.join(directory, "socket")
    server.add_insecure_port(f"unix:{address}")
    await server.start()
    print(f"1|1|unix|{address}|grpc", flush=True)
    try:
        await asyncio.wait_for(controller.stop.wait(), LIFETIME)
        await server.stop(grace=0.5)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
