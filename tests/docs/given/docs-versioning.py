import sys
from pathlib import Path

import surroundings
from surroundings import HANDSHAKE, kv_plugin

from pygo_plugin import Client, ServeConfig, serve

KVv1 = KVv2 = KVv3 = kv_plugin
# The plugin is the page's own text, below the names that it takes for granted.
text = surroundings.blocks(surroundings.ROOT / "docs/versioning.md")[0].text
program = surroundings.PROGRAM.partition("\nif __name__")[0]
names = "from surroundings import kv_plugin as KVv1, kv_plugin as KVv2\n"
Path("plugin.py").write_text(program + names + text)
