from surroundings import HANDSHAKE, write_plugin

from pygo_plugin import Client

write_plugin("plugin")
