"""A host with a plugin whose kill_group is set, for interop/test_groups.py.

    grouped.py HOW COMMAND

COMMAND is a JSON list. Once it runs, the host prints the plugin's pid, and exits, or waits to be
killed, or runs another program. With "terminal", stdin is a terminal that it makes its own, and it
waits for Ctrl-C.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import termios
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build" / "proto"), str(ROOT / "tests" / "peers")]

import pygo_plugin_peer  # noqa: E402

from pygo_plugin import Client  # noqa: E402

how, command = sys.argv[1], json.loads(sys.argv[2])
if how == "terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
client = Client(
    command,
    handshake_config=pygo_plugin_peer.HANDSHAKE,
    plugins=pygo_plugin_peer.plugins(),
    kill_group=True,
)
client.start()
try:
    print(client.pid, flush=True)
    if how == "terminal":
        while True:  # a signal just before a wait without a limit does not end it
            threading.Event().wait(0.1)
    elif how != "exit":
        sys.stdin.read(1)
except KeyboardInterrupt:  # as soon as the line is out
    print("interrupted", client.ping() == "", flush=True)
if how == "exec":
    os.execv("/bin/sleep", ["sleep", "1000"])
