"""The echo plugin on PyPI's python-plugin, which is made of grpclib and asyncio."""

import asyncio

import probe_pb2
from grpclib.const import Cardinality, Handler
from pyplugin import HandshakeConfig, Plugin, ServeConfig, serve


class EchoServicer:
    async def echo(self, stream):
        request = await stream.recv_message()
        if request.delay_ms:
            await asyncio.sleep(request.delay_ms / 1000)
        await stream.send_message(probe_pb2.EchoReply(payload=request.payload))

    def __mapping__(self):
        handler = Handler(
            self.echo, Cardinality.UNARY_UNARY, probe_pb2.EchoRequest, probe_pb2.EchoReply
        )
        return {"/probe.Probe/Echo": handler}


class EchoPlugin(Plugin):
    def servicers(self, broker):
        return [EchoServicer()]

    def stub(self, broker, channel):
        raise NotImplementedError("this is the plugin's side")


if __name__ == "__main__":
    serve(
        ServeConfig(
            handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
            plugins={"probe": EchoPlugin()},
        )
    )
