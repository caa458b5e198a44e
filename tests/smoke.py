"""Shows that an installed pygo_plugin works: launch a plugin, call it, kill it.

usage: python tests/smoke.py

The plugin is this file again, and messages are plain bytes, so that nothing generated and no test
tool is needed: scripts/test runs it under every CPython that it finds.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from pygo_plugin import Client, HandshakeConfig, Plugin, ServeConfig, serve

HANDSHAKE = HandshakeConfig(
    protocol_version=1, magic_cookie_key="PYGO_SMOKE", magic_cookie_value="smoke"
)


class Echo:
    """The client's side of the one method."""

    def __init__(self, channel: Any) -> None:
        self.reverse = channel.unary_unary("/smoke.Echo/Reverse")


class EchoPlugin(Plugin):
    def client_class(self) -> type[Echo]:
        return Echo

    def server_register(self, server: Any) -> None:
        import grpc

        def reverse(request: bytes, context: grpc.ServicerContext) -> bytes:
            return request[::-1]

        handlers = {"Reverse": grpc.unary_unary_rpc_method_handler(reverse)}
        generic = grpc.method_handlers_generic_handler("smoke.Echo", handlers)
        server.add_generic_rpc_handlers((generic,))


def expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        sys.exit(f"smoke: {what}: expected {expected!r}, got {actual!r}")


def use() -> None:
    client = Client(
        [sys.executable, __file__, "--plugin"],
        plugins={"echo": EchoPlugin()},
        handshake_config=HANDSHAKE,
    )
    with client:
        _, echo = client.dispense("echo")
        expect("the reply", echo.reverse(b"olleh", timeout=10), b"hello")
        expect("a ping", client.ping(), "")
        expect("exited() while it runs", client.exited(), False)
    expect("exited() after kill", client.exited(), True)


def main() -> None:
    if sys.argv[1:] == ["--plugin"]:
        serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"echo": EchoPlugin()}))
        return
    use()
    print(f"smoke: passed under {platform.python_implementation()} {platform.python_version()}")


if __name__ == "__main__":
    main()
