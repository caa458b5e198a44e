"""Our plugin without generated stubs: neither grpc nor protobuf is imported.

What a server wants is an object with the attributes of `grpc.RpcMethodHandler`. This one takes and
gives bytes, which serves `probe.Probe/Echo` because request and reply have the payload in the same
field.
"""

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, serve


class EchoMethod:
    request_streaming = False
    response_streaming = False
    request_deserializer = None
    response_serializer = None
    unary_stream = None
    stream_unary = None
    stream_stream = None

    @staticmethod
    def unary_unary(request, context):
        return request


class EchoHandler:
    method = EchoMethod()

    def service(self, details):
        return self.method if details.method == "/probe.Probe/Echo" else None


class EchoPlugin(Plugin):
    def server_register(self, server):
        server.add_generic_rpc_handlers((EchoHandler(),))


serve(
    ServeConfig(
        handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
        plugins={"probe": EchoPlugin()},
    )
)
