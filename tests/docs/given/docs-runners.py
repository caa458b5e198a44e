from surroundings import HANDSHAKE, PLUGINS

from pygo_plugin import Client
