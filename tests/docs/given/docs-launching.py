import os

from surroundings import HANDSHAKE, PLUGINS, kv_plugin, write_plugin

from pygo_plugin import Client

KVv4 = KVv5 = kv_plugin
write_plugin("plugin")
