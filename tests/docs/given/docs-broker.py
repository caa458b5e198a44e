import sys
from pathlib import Path

from surroundings import HANDSHAKE, PLUGINS, ROOT, Late

from pygo_plugin import Client, Plugin, service, testing

sys.path += [str(ROOT / "examples" / name) for name in ("bidirectional", "streaming")]
import counter_pb2
import shout_pb2
from shout_pb2 import CopyRequest, CopyResponse

SHOUT = service(shout_pb2, "Shout")
Path("input").write_text("one\ntwo\n")


class LateReader(SHOUT.Servicer):
    def __init__(self, broker):
        self.broker = broker

    def Copy(self, request, context):
        return Reader(self.broker).Copy(request, context)


class ReaderPlugin(Plugin):
    def grpc_server(self, broker, server):
        SHOUT.add_to_server(LateReader(broker), server)


def make_client():
    plugins = {"counter": CounterPlugin(), "reader": ReaderPlugin()}
    return stack.enter_context(testing.client(plugins))


client = Late(make_client)
reader = Late(lambda: SHOUT.Stub(client.channel))
