"""Plugins in Python for the hosts of go-plugin's examples "basic" and "grpc", over net/rpc.

Called with the name of the example.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from pygo_plugin import HandshakeConfig, ServeConfig, netrpc, serve

HANDSHAKE = HandshakeConfig(
    protocol_version=1, magic_cookie_key="BASIC_PLUGIN", magic_cookie_value="hello"
)


class Greeter:
    def greet(self, nothing: Any = None) -> str:
        logging.getLogger("greeter").debug("message from GreeterHello.Greet")
        return "Hello!"


class KV:
    def put(self, args: dict[str, Any]) -> Any:  # Go's reply is an interface{}, which stays nil
        written = args["value"] + b"\n\nWritten from plugin-go-netrpc"
        Path(f"kv_{args['key']}").write_bytes(written)

    def get(self, key: str) -> bytes:
        return Path(f"kv_{key}").read_bytes()


PLUGINS = {
    "basic": {"greeter": netrpc.plugin(Greeter)},
    "grpc": {"kv": netrpc.plugin(KV)},
}

if __name__ == "__main__":
    logging.getLogger().setLevel(logging.DEBUG)
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS[sys.argv[1]]))
