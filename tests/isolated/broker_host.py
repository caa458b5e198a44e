"""A host with brokered connections in both directions, until it is killed.

OPTIONS TMPDIR WHEN [ARGUMENT OF THE PLUGIN...], WHEN being "idle" or "calling back".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "kit"))

import broker_plugin
from broker_plugin import add
from brokered import OPTIONS, call_back, echo

from pygo_plugin import Client, Cmd

command = Cmd([sys.executable, broker_plugin.__file__, *sys.argv[4:]])
command.env = [f"TMPDIR={sys.argv[2]}"]
client = Client(command, **json.loads(sys.argv[1]), **OPTIONS)
broker, test = client.dispense("test")
call_back(broker, test)
server = broker.accept_and_serve(broker.next_id(), echo)
broker.dial(int(test.Serve(b"")))


def ready(data: bytes) -> bytes:
    os.write(1, b"%d\n" % client.pid)
    sys.stdin.read()
    return data


if sys.argv[3] == "idle":
    ready(b"")
with broker.serve(lambda server: add(server, Echo=ready)) as number:
    test.CallBack(b"%d" % number)
