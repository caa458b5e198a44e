"""Shows that an installed pygo_plugin works: launch a plugin, call it, kill it.

usage: python tests/smoke.py [--grpcio]

By gRPC, by gRPC with AutoMTLS, and by net/rpc. The plugin is this file again, and messages are
plain bytes, so that nothing generated and no test tool is needed: scripts/test runs it under every
CPython that it finds, and in a root where there is nothing but the interpreter. With --grpcio, the
plugin's handlers are made by grpcio; otherwise neither side may import it.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from pygo_plugin import Client, HandshakeConfig, Plugin, ServeConfig, netrpc, rpc, serve

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
        make: Any = rpc
        if "--grpcio" in sys.argv:
            import grpc as make

        def reverse(request: bytes, context: Any) -> bytes:
            return request[::-1]

        handlers = {"Reverse": make.unary_unary_rpc_method_handler(reverse)}
        generic = make.method_handlers_generic_handler("smoke.Echo", handlers)
        server.add_generic_rpc_handlers((generic,))


class Reverser:
    """The same for net/rpc."""

    def reverse(self, text: str) -> str:
        return text[::-1]


def expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        sys.exit(f"smoke: {what}: expected {expected!r}, got {actual!r}")


def use_grpc(auto_mtls: bool) -> None:
    client = Client(
        [sys.executable, __file__, "--plugin", *sys.argv[1:]],
        plugins={"echo": EchoPlugin()},
        handshake_config=HANDSHAKE,
        auto_mtls=auto_mtls,
        kill_timeout=30,
    )
    with client:
        _, echo = client.dispense("echo")
        expect("the reply", echo.reverse(b"olleh", timeout=10), b"hello")
        expect("a ping", client.ping(), "")
        expect("exited() while it runs", client.exited(), False)
    expect("exited() after kill", client.exited(), True)
    expect("the plugin's exit status", client.exit_status, 0)


def use_netrpc() -> None:
    client = Client(
        [sys.executable, __file__, "--netrpc-plugin"],
        plugins={"reverser": netrpc.plugin(Reverser)},
        handshake_config=HANDSHAKE,
        allowed_protocols=["netrpc"],
    )
    with client:
        expect("net/rpc's reply", client.dispense("reverser").reverse("olleh", timeout=10), "hello")


def main() -> None:
    if "--netrpc-plugin" in sys.argv:
        plugins = {"reverser": netrpc.plugin(Reverser)}
        serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
        return
    if "--plugin" in sys.argv:
        serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"echo": EchoPlugin()}))
    else:
        use_grpc(auto_mtls=False)
        use_grpc(auto_mtls=True)
        use_netrpc()
    expect("grpcio", "grpc" in sys.modules, sys.argv[1:] == ["--plugin", "--grpcio"])
    if "--plugin" in sys.argv:
        return
    print(f"smoke: passed under {platform.python_implementation()} {platform.python_version()}")


if __name__ == "__main__":
    main()
