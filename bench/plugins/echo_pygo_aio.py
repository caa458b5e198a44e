"""Our plugin on asyncio, with generated stubs."""

import asyncio

import probe_pb2_grpc
from echo_aio import EchoServicer

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, aio


class ProbePlugin(Plugin):
    def server_register(self, server):
        probe_pb2_grpc.add_ProbeServicer_to_server(EchoServicer(), server)


asyncio.run(
    aio.serve(
        ServeConfig(
            handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
            plugins={"probe": ProbePlugin()},
        )
    )
)
