"""Our plugin, with generated stubs."""

import probe_pb2
import probe_pb2_grpc
from echo import COOKIE, WORKERS, EchoServicer

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve


class CallingServicer(EchoServicer):
    def __init__(self, broker):
        super().__init__()
        self._broker = broker

    def CallBack(self, request, context):
        with self._broker.dial(request.service_id) as channel:
            stub = probe_pb2_grpc.ProbeStub(channel)
            reply = stub.Echo(probe_pb2.EchoRequest(payload=request.payload))
        return probe_pb2.CallBackReply(payload=reply.payload)


class ProbePlugin(Plugin):
    def grpc_server(self, broker, server):
        probe_pb2_grpc.add_ProbeServicer_to_server(CallingServicer(broker), server)


serve(
    ServeConfig(
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": ProbePlugin()},
        max_workers=WORKERS,
    )
)
