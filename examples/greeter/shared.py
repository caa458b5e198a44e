"""What the host and the plugin of this example have in common."""

import greeter_pb2

from pygo_plugin import HandshakeConfig, service

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="GREETER_EXAMPLE_PLUGIN",
    magic_cookie_value="0b5e2f4a-greeter",
)

Greeter = service(greeter_pb2, "Greeter")
