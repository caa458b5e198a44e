"""A supervised plugin, and a pool: processes are killed, and no call may fail for that."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading

import calls
import probe_pb2 as pb
import pygo_plugin_peer
from fleet import COMMANDS, PEERS, Fleet

from pygo_plugin import PluginError, Pool, Restart, Supervisor

TIMEOUT = 60.0
MEMBERS = 3  # of the pool
COPIED = [sys.executable, str(PEERS / "template_plugin.py"), "grpc"]


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


def run_pool(fleet: Fleet, problems: calls.Problems, stop: threading.Event, seed: str) -> None:
    """Map and lend until `stop`, while members, which are copies of a template, are killed."""
    chance = random.Random(seed)
    try:
        with Pool(
            COPIED,
            handshake_config=pygo_plugin_peer.HANDSHAKE,
            plugins=pygo_plugin_peer.plugins(),
            size=MEMBERS,
            restart=Restart(max_restarts=None, delay=0.01),
            retry={"Echo": 1000},
            template=True,
        ) as pool:
            while not stop.is_set():
                what = chance.random()
                if what < 0.05:
                    with contextlib.suppress(ProcessLookupError, IndexError):
                        os.kill(chance.choice(pool.pids), signal.SIGKILL)
                elif what < 0.1:
                    with pool.member(timeout=TIMEOUT) as lent:
                        _, probe = lent.dispense("probe")
                        probe.Echo(pb.EchoRequest(payload=b"x"), timeout=TIMEOUT)
                sent = [calls.payload(chance) for _ in range(10)]
                asked = (pb.EchoRequest(payload=payload) for payload in sent)
                got = pool.map("probe", "Echo", asked, timeout=TIMEOUT)
                assert [reply.payload for reply in got] == sent
                calls.done["pool"] += len(sent)
    except Exception as error:
        problems.add(f"pool: {error!r}")
