from kv_pb2 import GetRequest, PutRequest
from surroundings import HANDSHAKE, PLUGINS, write_plugin

write_plugin("plugin")
