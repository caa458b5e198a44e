"""Our plugin, with generated stubs."""

import probe_pb2_grpc
from echo import COOKIE, EchoServicer

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve


class ProbePlugin(Plugin):
    def server_register(self, server):
        probe_pb2_grpc.add_ProbeServicer_to_server(EchoServicer(), server)


serve(
    ServeConfig(
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": ProbePlugin()},
        max_workers=16,  # as many as the grpcio plugin has
    )
)
