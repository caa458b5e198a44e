"""What the scripts of this folder share: a client, and a choice of what to do with it.

Each script is run by tests/unit/test_process.py as `script.py MODE COMMAND`, with the plugin's
command line as JSON, and says on stdout what it found.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import probe_pb2 as pb
import pygo_plugin_peer

from pygo_plugin import Client

DEADLINE = 60.0


def command() -> list[str]:
    found: list[str] = json.loads(sys.argv[2])
    return found


def make_client(argv: list[str] | None = None, **options: Any) -> Client:
    return Client(
        argv or command(),
        handshake_config=pygo_plugin_peer.HANDSHAKE,
        plugins=pygo_plugin_peer.plugins(),
        **options,
    )


def exists(pid: int) -> bool:
    """Whether there is such a process, a zombie or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], Any]) -> None:
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "too late"
        pause.wait(0.01)


def hanging(probe: Any) -> int:
    """How many Hang calls are in their handler."""
    found = probe.Cancelled(pb.CancelledRequest(), timeout=DEADLINE)
    return int(found.started - found.cancelled)


def main(*modes: Callable[[], None]) -> None:
    chosen = {mode.__name__: mode for mode in modes}[sys.argv[1]]
    chosen()
