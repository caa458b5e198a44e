#!/usr/bin/env python3
"""A host that can be replaced while its plugin goes on.

usage: host.py AMOUNT    count, with the plugin that runs already or else with a new one
       host.py stop      end the plugin

Where the plugin is stands in the file plugin.json of the working directory.
"""

import sys
from pathlib import Path

from counter_pb2 import AddRequest
from shared import HANDSHAKE, Counter

from pygo_plugin import Client, ReattachConfig, ReattachError

PLUGIN = [sys.executable, str(Path(__file__).with_name("plugin.py"))]
STATE = Path("plugin.json")


def connect(options):
    """A client of the plugin that an earlier host has left, or of a new plugin."""
    if STATE.exists():
        running = ReattachConfig.from_json(STATE.read_text())
        client = Client(reattach_config=running, **options)
        try:
            client.start()
        except ReattachError as error:
            print(f"starting anew: {error}")
        else:
            print(f"reattached to process {client.pid}")
            return client
    client = Client(PLUGIN, detach=True, **options)
    client.start()
    STATE.write_text(client.reattach_config().to_json())
    print(f"started process {client.pid}")
    return client


def main(argument):
    # No `with`: leaving it would end the plugin.
    client = connect({"handshake_config": HANDSHAKE, "plugins": {"counter": Counter.plugin()}})
    if argument == "stop":
        client.kill()
        STATE.unlink()
        print("stopped")
        return
    _, counter = client.dispense("counter")
    reply = counter.Add(AddRequest(amount=int(argument)), timeout=10)
    print(f"the total is {reply.total}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["1"])
