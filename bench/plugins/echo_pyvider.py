"""The echo plugin on PyPI's pyvider-rpcplugin, which is made of grpcio's asyncio flavour."""

import asyncio

import probe_pb2
import probe_pb2_grpc
from pyvider.rpcplugin import RPCPluginProtocol, plugin_server


class EchoServicer(probe_pb2_grpc.ProbeServicer):
    async def Echo(self, request, context):
        if request.delay_ms:
            await asyncio.sleep(request.delay_ms / 1000)
        return probe_pb2.EchoReply(payload=request.payload)


class Protocol(RPCPluginProtocol):
    service_name = "probe.Probe"

    async def get_grpc_descriptors(self):
        return probe_pb2.DESCRIPTOR, self.service_name

    async def add_to_server(self, server, handler):
        probe_pb2_grpc.add_ProbeServicer_to_server(handler, server)


async def main():
    server = plugin_server(
        protocol=Protocol(),
        handler=EchoServicer(),
        config={
            "PLUGIN_MAGIC_COOKIE_KEY": "PYGO_TEST_COOKIE",
            "PLUGIN_MAGIC_COOKIE_VALUE": "pygo",
            "PLUGIN_AUTO_MTLS": False,
        },
    )
    await server.serve()


if __name__ == "__main__":
    asyncio.run(main())
