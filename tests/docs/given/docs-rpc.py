import kv_pb2_grpc
from certificates import Authority
from surroundings import HANDSHAKE, PLUGINS, Late

from pygo_plugin import ServeConfig, testing

authority = Authority("documentation")
ca = authority.root
key, chain = authority.issue("server", "localhost")
client_key, client_chain = authority.issue("client", "client")
target = "unix:greeter.sock"
client = Late(lambda: stack.enter_context(testing.client(PLUGINS)))


def token_for(url):
    return f"Bearer {url}"
