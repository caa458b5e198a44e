"""What the host and the plugin of this example have in common."""

import os
import sys

from pygo_plugin import HandshakeConfig, netrpc

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="SUPERVISED_EXAMPLE_PLUGIN",
    magic_cookie_value="7d1c90a2-supervised",
)


class Counter:
    """What the plugin does. Its memory is that of one process."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        """Add a number. Returns: the sum of all numbers so far."""
        self.total += number
        return self.total

    def crash(self, status: int) -> None:
        """End the process at once."""
        print("the counter has been told to crash", file=sys.stderr, flush=True)
        os._exit(status)


PLUGINS = {"counter": netrpc.plugin(Counter)}
