"""Our host without generated stubs: bytes both ways, and neither grpcio nor protobuf imported."""

from __future__ import annotations

import logging

from measure import COOKIE, measure_calls, parse_arguments, report

from pygo_plugin import Client, HandshakeConfig, Plugin


class BytesPlugin(Plugin):
    """`client_class` stays None: a host gets the bare channel."""


def encoded(size: int) -> bytes:
    """An EchoRequest with a payload of `size` bytes: field 1, its length as a varint."""
    length = bytearray()
    left = size
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return b"\x0a" + length + bytes(size)


def calls(arguments) -> dict:
    logger = logging.getLogger("bench.off")
    logger.disabled = True
    with Client(
        arguments.plugin,
        handshake_config=HandshakeConfig(1, *COOKIE),
        plugins={"probe": BytesPlugin()},
        logger=logger,
    ) as client:
        channel, _ = client.dispense("probe")
        echo = channel.unary_unary("/probe.Probe/Echo")
        request = encoded(arguments.size)
        return measure_calls(lambda: echo(request), arguments)


if __name__ == "__main__":
    given = parse_arguments()
    report(calls=calls(given))
