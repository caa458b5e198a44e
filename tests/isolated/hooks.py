"""What tools that watch threads see of the core's."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import probe_pb2 as pb
from host import DEADLINE, command, main, make_client, wait_until
from masks import serving
from own_runner import Own
from pygo_plugin_peer import HANDSHAKE, plugins

from pygo_plugin import Client

watched: set[str] = set()


def watch(frame: Any, event: str, arg: Any) -> None:
    watched.add(frame.f_code.co_name)


# ---- What is to be seen --------------------------------------------------------------------------


def in_handler(request: bytes, context: Any) -> bytes:
    context.add_callback(when_over)
    return request


def when_over() -> None:
    pass


def when_done(call: Any) -> None:
    pass


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        when_logged()


def when_logged() -> None:
    pass


def act() -> None:
    """Runs all these functions on the core's threads, and returns once they have been seen."""
    logging.getLogger("p").addHandler(Handler())
    leave = threading.Event()

    def late(request: bytes, context: Any) -> bytes:
        leave.wait(DEADLINE)
        return in_handler(request, context)

    with serving(late) as call, make_client(logger=logging.getLogger("p")) as client:
        _, probe = client.dispense("probe")
        line = pb.Line(channel=pb.Line.LOG, text=b"x", level="error")
        probe.Print(pb.PrintRequest(lines=[line]), timeout=DEADLINE)
        future = call.future(b"", timeout=DEADLINE)
        future.add_done_callback(when_done)
        leave.set()
        assert future.result() == b""
        wait_until(lambda: watched >= {"in_handler", "when_over", "when_done", "when_logged"})
    print("seen")


# ---- By whom -------------------------------------------------------------------------------------


def trace() -> None:
    threading.settrace(watch)
    act()


def profile() -> None:
    threading.setprofile(watch)
    act()


def existing() -> None:
    """Hooks that are set when handlers' threads already exist (from Python 3.12 on)."""
    watching: list[Callable[[], Any]] = []
    if sys.version_info >= (3, 12):
        watching += [
            lambda: threading.settrace_all_threads(watch),
            lambda: threading.setprofile_all_threads(watch),
            monitor,
        ]
    with serving(in_handler) as call:
        call(b"", timeout=DEADLINE)
        for start in watching:
            watched.clear()
            start()
            call(b"", timeout=DEADLINE)
            wait_until(lambda: watched >= {"in_handler", "when_over"})
    print("seen")


def monitor() -> None:
    threading.settrace_all_threads(None)
    threading.setprofile_all_threads(None)
    monitoring = sys.monitoring
    monitoring.use_tool_id(monitoring.PROFILER_ID, "test")
    monitoring.register_callback(
        monitoring.PROFILER_ID,
        monitoring.events.PY_START,
        lambda code, offset: watched.add(code.co_name),
    )
    monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)


def names() -> None:
    """Threads are enumerated under their names."""
    inside, leave = threading.Semaphore(0), threading.Event()
    found: list[str] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.append(threading.current_thread().name)
        inside.release()
        leave.wait(DEADLINE)
        return request

    with serving(behavior) as call:
        calls = [call.future(b"") for _ in range(3)]
        for _ in calls:
            assert inside.acquire(timeout=DEADLINE)
        running = {thread.name for thread in threading.enumerate()}
        leave.set()
        for one in calls:
            one.result(DEADLINE)
    print(sorted(found), running >= set(found))


def ended() -> None:
    """Threads that have ended are not enumerated."""
    found: list[str] = []

    class Runner(Own):
        def wait(self) -> Any:
            found.append(threading.current_thread().name)
            return super().wait()

    with Client(runner=Runner(command()), handshake_config=HANDSHAKE, plugins=plugins()) as client:
        client.start()
    wait_until(lambda: not {thread.name for thread in threading.enumerate()} & set(found))
    print(found)


if __name__ == "__main__":
    main(trace, profile, existing, names, ended)
