import hashlib
from pathlib import Path

from certificates import Authority
from surroundings import HANDSHAKE, PLUGINS, write_plugin

from pygo_plugin import Client, SecureConfig, ServeConfig, TLSConfig, serve

write_plugin("plugin")
write_plugin("kv-plugin")
digest = hashlib.sha256(Path("kv-plugin").read_bytes()).hexdigest()
Path("SHA256SUMS").write_text(f"{digest}  kv-plugin\n")
authority = Authority("documentation")
pair = authority.issue("plugin", "plugin.example")
Path("ca.pem").write_bytes(authority.root)
Path("plugin.pem").write_bytes(pair.chain)
Path("plugin.key").write_bytes(pair.key)
