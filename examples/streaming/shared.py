"""What the host and the Python plugin of this example have in common.

The handshake has to be the same in every host and every plugin, whatever their language: see
go/streaming.go.
"""

from __future__ import annotations

import shout_pb2

from pygo_plugin import HandshakeConfig, service

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="STREAMING_EXAMPLE_PLUGIN",
    magic_cookie_value="0c9a7d52-streaming",
)

SHOUT = service(shout_pb2, "Shout")
