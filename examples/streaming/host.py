#!/usr/bin/env python3
"""Lends a plugin two open files: one to read from, one to write to.

usage: host.py [--auto-mtls] [--multiplex] SOURCE TARGET [PLUGIN [ARGUMENT]]

The plugin is plugin.py next to this file unless the command line names one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import shout_pb2
from shared import HANDSHAKE, SHOUT

from pygo_plugin import Client, Plugin


class Shout:
    """What dispense() gives: copying between file objects."""

    def __init__(self, broker: Any, channel: Any) -> None:
        self.broker = broker
        self.stub: Any = SHOUT.Stub(channel)

    def copy(self, source: Any, target: Any) -> int:
        with self.broker.serve_io(source) as reader, self.broker.serve_io(target) as writer:
            request = shout_pb2.CopyRequest(source=reader, target=writer)
            return int(self.stub.Copy(request).lines)


class ShoutPlugin(Plugin[Shout]):
    def grpc_client(self, broker: Any, channel: Any) -> Shout:
        return Shout(broker, channel)


def main(arguments: list[str]) -> None:
    given = [argument for argument in arguments if not argument.startswith("--")]
    if len(given) < 2:
        sys.exit(str(__doc__))
    source, target, *command = given
    with Client(
        command or [sys.executable, str(Path(__file__).with_name("plugin.py"))],
        handshake_config=HANDSHAKE,
        plugins={"shout": ShoutPlugin()},
        auto_mtls="--auto-mtls" in arguments,
        broker_multiplex="--multiplex" in arguments,
    ) as client:
        shout = client.dispense("shout")
        with open(source, "rb") as reader, open(target, "wb") as writer:
            print(f"copied {shout.copy(reader, writer)} lines")


if __name__ == "__main__":
    main(sys.argv[1:])
