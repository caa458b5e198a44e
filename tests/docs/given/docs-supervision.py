import os
import signal

from surroundings import HANDSHAKE, PLUGINS, write_plugin

from pygo_plugin import supervise

write_plugin("plugin")
