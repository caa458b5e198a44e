"""Our plugin, with a method that computes."""

import probe_pb2
import probe_pb2_grpc
from echo import COOKIE

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve


class Servicer(probe_pb2_grpc.ProbeServicer):
    def Echo(self, request, context):
        if request.payload == b"compute":
            sum(number * number for number in range(30_000))
        return probe_pb2.EchoReply(payload=request.payload)


class ProbePlugin(Plugin):
    def grpc_server(self, broker, server):
        probe_pb2_grpc.add_ProbeServicer_to_server(Servicer(), server)


serve(ServeConfig(handshake_config=HandshakeConfig(1, *COOKIE), plugins={"probe": ProbePlugin()}))
