import sys

from surroundings import HANDSHAKE, PLUGINS, write_plugin

from pygo_plugin import Client

write_plugin("plugin")
