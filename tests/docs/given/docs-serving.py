from surroundings import HANDSHAKE, kv_plugin

from pygo_plugin import ServeConfig, Server, serve

KVPlugin = kv_plugin
