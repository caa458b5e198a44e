"""A pool one of whose processes is killed ten times a second: nothing hangs, fails or is lost.

python tests/soak/killing.py [MEMBERS [SECONDS]], by default 100 and 60, after scripts/test --quick
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT / "build" / "proto"), str(ROOT / "tests" / "peers")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(PATHS)

import probe_pb2 as pb  # noqa: E402
import pygo_plugin_peer  # noqa: E402

from pygo_plugin import Pool, Restart  # noqa: E402

THREADS = 8
PERIOD = 0.1  # seconds between two kills
TIMEOUT = 60.0


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def live(members: int, seconds: float) -> dict[str, Any]:
    """Use a pool, and kill. Returns: what has happened."""
    made, failures = [0] * THREADS, []
    over = threading.Event()
    pool = Pool(
        [str(ROOT / "build" / "peers" / "plugin")],
        handshake_config=pygo_plugin_peer.HANDSHAKE,
        plugins=pygo_plugin_peer.plugins(),
        size=members,
        restart=Restart(max_restarts=None, delay=0.0),
        retry={"Echo": 1000},
    )
    with pool:
        _, probe = pool.dispense("probe")

        def call(number: int) -> None:
            while not over.is_set():
                try:
                    probe.Echo(pb.EchoRequest(payload=b"x"), timeout=TIMEOUT)
                    made[number] += 1
                except Exception as error:
                    failures.append(repr(error))

        threads = [threading.Thread(target=call, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        end, kills = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            # Half of the time one that is in use, which few of many are.
            used = [m.pid for m in pool._group.members if m._current and m._current.calls]
            pids = used if used and random.random() < 0.5 else pool.pids
            if pids:
                os.kill(random.choice(pids), signal.SIGKILL)
                kills += 1
            over.wait(PERIOD)
        over.set()
        for thread in threads:
            thread.join(2 * TIMEOUT)
        hung = sum(thread.is_alive() for thread in threads)
        while len(pool.pids) < members:
            time.sleep(0.05)
    return {"calls": sum(made), "kills": kills, "failures": failures[:5], "hung": hung}


def main() -> int:
    members, seconds = (int(a) for a in [*sys.argv[1:], *("100", "60")[len(sys.argv) - 1 :]])
    logging.disable(logging.CRITICAL)
    live(2, 1.0)  # what is opened once stays
    before = descriptors()
    found = live(members, seconds)
    patience = time.monotonic() + TIMEOUT
    while (left := descriptors() - before) and time.monotonic() < patience:
        gc.collect()
        time.sleep(0.1)
    print({**found, "members": members, "seconds": seconds, "descriptors left": len(left)})
    return 1 if found["failures"] or found["hung"] or left else 0


if __name__ == "__main__":
    sys.exit(main())
