"""What the program and the plugin of this example have in common."""

import math
import os

from pygo_plugin import HandshakeConfig, netrpc

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="CLUSTER_EXAMPLE_PLUGIN",
    magic_cookie_value="0b6c1f5e-cluster",
)


class Factors:
    """What the plugin does."""

    def largest(self, number: int) -> int:
        """The largest prime factor of a number above 1."""
        for factor in range(2, math.isqrt(number) + 1):
            while number % factor == 0 and number > factor:
                number //= factor
        return number

    def process(self) -> int:
        """The process that answers."""
        return os.getpid()


PLUGINS = {"factors": netrpc.plugin(Factors)}
