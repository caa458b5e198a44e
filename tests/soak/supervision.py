"""A supervised plugin: its processes are killed and replaced, and no call may fail for that."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import calls
import probe_pb2 as pb
import pygo_plugin_peer
from fleet import COMMANDS, Fleet

from pygo_plugin import PluginError, Restart, Supervisor

TIMEOUT = 60.0


def run(fleet: Fleet, problems: calls.Problems, stop: threading.Event, seed: str) -> None:
    """Call one method over and over, which is repeated when the plugin ends, until `stop`."""
    chance = random.Random(seed)
    try:
        with Supervisor(
            COMMANDS["go"],
            handshake_config=pygo_plugin_peer.HANDSHAKE,
            plugins=pygo_plugin_peer.plugins(),
            restart=Restart(max_restarts=None, delay=0.01),
            retry={"Echo": 1000},
            max_calls=2000,
        ) as plugin:
            _, probe = plugin.dispense("probe")
            while not stop.is_set():
                what = chance.random()
                pid = plugin.pid
                if what < 0.005 and pid > 0:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                elif what < 0.01:
                    with contextlib.suppress(PluginError):  # it may end just then
                        plugin.reload()
                sent = calls.payload(chance)
                assert probe.Echo(pb.EchoRequest(payload=sent), timeout=TIMEOUT).payload == sent
                calls.done["supervised"] += 1
    except Exception as error:
        problems.add(f"supervised: {error!r}")
