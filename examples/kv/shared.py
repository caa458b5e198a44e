"""What the host and the Python plugin of this example have in common.

The handshake has to be the same in every host and every plugin, whatever their language: see
plugin-go/main.go.
"""

from __future__ import annotations

from typing import Any

from pygo_plugin import HandshakeConfig, Plugin

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="KV_EXAMPLE_PLUGIN",
    magic_cookie_value="5f0c1b7e-kv",
)


class KVPlugin(Plugin):
    """The service of kv.proto, under the name "kv"."""

    def client_class(self) -> Any:
        """What a host makes of its connection to the plugin."""
        import kv_pb2_grpc

        return kv_pb2_grpc.KVStub
