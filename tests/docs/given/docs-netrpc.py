from pathlib import Path

import surroundings
from surroundings import Late, kv_plugin

from pygo_plugin import netrpc, testing


class KV:
    def get(self, key: str) -> bytes:
        return b""


KVPlugin = kv_plugin
Path("input").write_bytes(b"bytes")


def late_client(make_plugins):
    return Late(lambda: stack.enter_context(testing.client(make_plugins())))


def greeter_plugins():
    from greeter import Greeter

    return {"greeter": netrpc.plugin(Greeter)}


greeter = Late(lambda: late_client(greeter_plugins).dispense("greeter"))
client = late_client(lambda: {"bench": netrpc.plugin(Bench)})
bench = Late(lambda: client.dispense("bench"))

HANDSHAKE = surroundings.HANDSHAKE
page = surroundings.blocks(surroundings.ROOT / "docs/netrpc.md")
program = next(block.text for block in page if "class Bench:" in block.text)
Path("bench").write_text(
    surroundings.PROGRAM.partition("if __name__")[0].replace("PLUGINS", "kv_plugin")
    + program
    + """
from pygo_plugin import netrpc

if __name__ == "__main__":
    plugins = {"bench": netrpc.plugin(Bench)}
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
"""
)
Path("bench").chmod(0o755)
