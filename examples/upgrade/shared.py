"""What the hosts and the plugin of this example have in common."""

import counter_pb2

from pygo_plugin import HandshakeConfig, service

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="COUNTER_EXAMPLE_PLUGIN",
    magic_cookie_value="7d1e9c30-counter",
)

Counter = service(counter_pb2, "Counter")
