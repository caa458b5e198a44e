"""Our plugin, with generated stubs."""

import sys

import probe_pb2_grpc
from echo import COOKIE, EchoServicer

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, Server


class ProbePlugin(Plugin):
    def server_register(self, server):
        probe_pb2_grpc.add_ProbeServicer_to_server(EchoServicer(), server)


class EchoServer(Server):
    def server(self, **opts):
        return self.default_grpc_server(max_workers=16, **opts)  # as many as the grpcio plugin has


config = ServeConfig()
config.handshake_config = HandshakeConfig(1, *COOKIE)
config.plugins["probe"] = ProbePlugin()
server = EchoServer(config)
if not server.serve(wait=True):
    sys.exit(server.error_msg)
