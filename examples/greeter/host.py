#!/usr/bin/env python3
"""Has a plugin greet people.

usage: host.py NAME...
"""

import sys
from pathlib import Path

from greeter_pb2 import GreetRequest
from shared import HANDSHAKE, Greeter

from pygo_plugin import Client, RpcError

PLUGIN = [sys.executable, str(Path(__file__).with_name("plugin.py"))]


def main(names):
    plugins = {"greeter": Greeter.plugin()}
    with Client(PLUGIN, handshake_config=HANDSHAKE, plugins=plugins) as client:
        _, greeter = client.dispense("greeter")
        for name in names:
            try:
                print(greeter.Greet(GreetRequest(name=name), timeout=10).text)
            except RpcError as error:
                print(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["world"])
