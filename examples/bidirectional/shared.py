"""What the host and the Python plugin of this example have in common.

The handshake has to be the same in every host and every plugin, whatever their language: see
go/counter.go.
"""

from __future__ import annotations

import counter_pb2

from pygo_plugin import HandshakeConfig, service

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="COUNTER_EXAMPLE_PLUGIN",
    magic_cookie_value="71b6f0d3-counter",
)

COUNTER = service(counter_pb2, "Counter")
ADD_HELPER = service(counter_pb2, "AddHelper")
