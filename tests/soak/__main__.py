"""Calls of every kind from eight threads and an event loop, while plugins are killed under them.

    SOAK_SECONDS=60 python tests/soak

Nothing may fail that has no reason to, nothing may hang, and nothing may be left behind: memory,
objects, calls, threads and descriptors after a quarter of the time are compared with those at the
end; then the last plugin goes, and with it all that came with the first.

    SOAK_SECONDS  how long to go on, 60 by default
    SOAK_SEED     what the random choices derive from; printed at the start
    SOAK_MEMORY   how many MB the resident memory may grow by, 4 by default

Set MALLOC_ARENA_MAX=2 for memory to be comparable: glibc gives each thread an arena of its own, and
what is freed there stays.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# For this process, and for the plugins that it launches.
PATHS = [str(ROOT / "build" / "proto"), str(ROOT / "tests" / "peers")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH", "")]))

import async_calls  # noqa: E402
import calls  # noqa: E402
import supervision  # noqa: E402
from census import GRPC_DESCRIPTORS, Census, Count, compare  # noqa: E402
from fleet import Fleet  # noqa: E402

from pygo_plugin import _core  # noqa: E402

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
MEMORY = float(os.environ.get("SOAK_MEMORY", "4"))
ROUNDS = 4  # the first one warms up
THREADS = 8
PATIENCE = 60.0  # seconds after which whatever has not come to its end is stuck


def say(line: object) -> None:
    print(f"soak: {line}", flush=True)


def main() -> int:
    faulthandler.enable()
    say(f"{SECONDS:g} s, SOAK_SEED={SEED}, with {_core.__file__}")
    sys.unraisablehook = calls.unraisable
    logging.getLogger("pygo_plugin").addHandler(logging.NullHandler())
    problems = calls.Problems()
    with tempfile.TemporaryDirectory(prefix="pygo") as directory:
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        soak(problems, Census(Path(directory)))
    for problem in problems.found[:20]:
        say(problem)
    say(f"{len(problems.found)} problems")
    return 1 if problems.found else 0


def soak(problems: calls.Problems, census: Census) -> None:
    # What gRPC, asyncio and we ourselves keep for as long as the process lives.
    first = Fleet(problems, random.Random(SEED))
    play(first, problems, f"{SEED}/first", min(5.0, SECONDS / ROUNDS))
    first.close()
    del first
    census.await_threads()
    before = census.take()

    fleet = Fleet(problems, random.Random(SEED))
    taken: list[Count] = []
    while len(taken) < ROUNDS and not problems.found:
        play(fleet, problems, f"{SEED}/{len(taken)}", SECONDS / ROUNDS)
        census.await_threads()
        taken.append(census.take(fleet.lasting()))
        say(f"{calls.totals()}; {taken[-1]}")
    fleet.close()
    if problems.found:
        return
    problems.found += compare(taken[0], taken[-1], MEMORY)
    del taken
    census.await_threads()
    after = census.take()
    say(after)
    for name in GRPC_DESCRIPTORS:
        before.descriptors[name] = after.descriptors[name]
    problems.found += compare(before, after._replace(memory=0, blocks=0), MEMORY)


def play(fleet: Fleet, problems: calls.Problems, seed: str, seconds: float) -> None:
    """Call from all threads for a while. Exits the process if a thread does not return."""
    stop = threading.Event()
    parts = [(calls.run, f"thread {n}") for n in range(THREADS)] + [(async_calls.run, "loop")]
    parts += [(supervision.run, "supervised"), (supervision.run_pool, "pool")]
    threads = [
        threading.Thread(target=run, args=(fleet, problems, stop, f"{seed}/{name}"), name=name)
        for run, name in parts
    ]
    threads.append(threading.Thread(target=fleet.churn, args=(stop,), name="churn"))
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        faulthandler.dump_traceback()
        for line in [*problems.found, *calls.under_way.values()]:
            say(line)
        say(f"{', '.join(stuck)} not back after {PATIENCE:g} s")
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
