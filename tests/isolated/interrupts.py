"""Signals that arrive while the main thread waits in the core."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from host import DEADLINE, hanging, main, make_client, pb, wait_until

from pygo_plugin import RpcError

PATIENCE = 5.0  # seconds; what a person notices is a tenth of it


def main_thread_waits() -> None:
    """Returns once the main thread has stood at one place of `wait` for ten looks."""
    pause = threading.Event()
    last: object = None
    seen = 0
    while seen < 10:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        place = (frame.f_code, frame.f_lasti)
        waits = place == last and frame.f_code.co_filename != threading.__file__
        seen = seen + 1 if waits else 0
        last = place
        pause.wait(0.01)


def interrupted(wait: Callable[[], Any], ready: Callable[[], Any]) -> None:
    """Runs `wait`, and has it interrupted as by Ctrl-C once it waits and `ready` holds."""
    sent: list[float] = []

    def interrupt() -> None:
        wait_until(ready)
        main_thread_waits()
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        wait()
    except KeyboardInterrupt:
        taken = time.monotonic() - sent[0]
        assert taken < PATIENCE, taken
        print("interrupted")
    thread.join()


def unary() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        interrupted(lambda: probe.Hang(pb.HangRequest()), lambda: hanging(probe))
        wait_until(lambda: not hanging(probe))
        print("cancelled")


def with_call() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        interrupted(lambda: probe.Hang.with_call(pb.HangRequest()), lambda: hanging(probe))
        wait_until(lambda: not hanging(probe))
        print("cancelled")


def future() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        call = probe.Hang.future(pb.HangRequest())
        interrupted(call.result, lambda: hanging(probe))
        wait_until(lambda: not hanging(probe))
        print("cancelled")


def stream() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        call = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
        interrupted(lambda: next(call), lambda: True)
        assert call.code().name == "CANCELLED"
        print("cancelled")


def start() -> None:
    client = make_client([sys.executable, "-c", "import signal; signal.pause()"])
    interrupted(client.start, lambda: client.pid > 0)
    pid = client.pid
    client.kill()
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        print("cancelled")


def handler() -> None:
    """A handler that returns runs during the call, which goes on."""
    handled: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    with make_client() as client:
        channel, probe = client.dispense("probe")
        other, second = client.dispense("probe")

        def end_call() -> None:
            wait_until(lambda: hanging(second))
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: handled)
            assert hanging(second) == 1
            channel.close()

        thread = threading.Thread(target=end_call)
        thread.start()
        try:
            probe.Hang(pb.HangRequest(), timeout=2 * DEADLINE)
        except RpcError as error:
            print("handled", handled == [signal.SIGUSR1], error.code().name)
        thread.join()
        other.close()


main(unary, with_call, future, stream, start, handler)
