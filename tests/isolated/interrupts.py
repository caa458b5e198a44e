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

from pygo_plugin import RpcError, rpc

PATIENCE = 5.0  # seconds; what a person notices is a tenth of it


def main_thread_waits() -> None:
    """Returns once the main thread has been seen ten times at one place of `wait`."""
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


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(
    wait: Callable[[], Any], ready: Callable[[], Any], send: Callable[[], Any] = press
) -> None:
    """Runs `wait`, and has it interrupted as by Ctrl-C once it waits and `ready` holds."""
    sent: list[float] = []

    def interrupt() -> None:
        wait_until(ready)
        main_thread_waits()
        sent.append(time.monotonic())
        send()

    thread = threading.Thread(target=interrupt)
    try:
        thread.start()  # in here, as a busy machine may stop the main thread before it waits
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


def waits_for_a_future() -> list[Callable[[Any], Any]]:
    return [
        lambda call: call.exception(),
        lambda call: call.traceback(),
        lambda call: call.code(),
        lambda call: call.details(),
        lambda call: call.initial_metadata(),
        lambda call: call.trailing_metadata(),
    ]


def ask() -> None:
    """All questions to a call, each with a call of its own: an interrupt may end it."""
    with make_client() as client:
        _, probe = client.dispense("probe")
        for wait in waits_for_a_future():
            call = probe.Hang.future(pb.HangRequest())
            interrupted(lambda wait=wait, call=call: wait(call), lambda: hanging(probe))
            call.cancel()
            wait_until(lambda: not hanging(probe))
        print("cancelled")


def requests() -> None:
    """A call that goes on sending, and one that only reads."""
    ended = threading.Event()

    def messages(kind: Any) -> Any:
        yield kind()
        ended.wait(DEADLINE)

    with make_client() as client:
        _, probe = client.dispense("probe")
        interrupted(lambda: probe.Sum(messages(pb.SumRequest)), lambda: True)
        chat = probe.Chat(messages(pb.ChatMessage))
        next(chat)
        interrupted(lambda: next(chat), lambda: True)
        assert chat.code().name == "CANCELLED"
        ended.set()
        print("cancelled")


def ready() -> None:
    """A call that waits for a server."""
    with rpc.insecure_channel("unix:/nowhere/at/all") as channel:
        call = channel.unary_unary("/a/b")
        interrupted(lambda: call(b"", wait_for_ready=True), lambda: True)
    print("cancelled")


def server() -> None:
    """Waits for a server's end, and for that of its handlers."""
    import grpc

    entered, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        entered.set()
        leave.wait(DEADLINE)
        return request

    made = rpc.server(max_workers=1)
    methods = {"M": grpc.unary_unary_rpc_method_handler(behavior)}
    made.add_registered_method_handlers("t", methods)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    interrupted(made.wait_for_termination, lambda: True)
    interrupted(lambda: made.wait_for_termination(DEADLINE), lambda: True)
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        future = channel.unary_unary("/t/M").future(b"x")
        assert entered.wait(DEADLINE)
        stopped = made.stop(DEADLINE)
        interrupted(made.join, lambda: True)
        leave.set()
        assert future.result(DEADLINE) == b"x"
    assert stopped.wait(DEADLINE)
    print("cancelled")


def stream() -> None:
    with make_client() as client:
        _, probe = client.dispense("probe")
        call = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
        interrupted(lambda: next(call), lambda: True)
        assert call.code().name == "CANCELLED"
        print("cancelled")


def dial() -> None:
    with make_client() as client:
        client.start()
        interrupted(lambda: client.broker.dial(77, timeout=DEADLINE), lambda: True)
        assert client.ping() == ""
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


def killer() -> None:
    """A signal handler that ends the plugin that the interrupted thread starts."""
    from pygo_plugin import ClosedError, cleanup_clients

    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    for everything in (False, True):
        client = make_client(silent, managed=True)
        end = cleanup_clients if everything else client.kill
        signal.signal(signal.SIGINT, lambda number, frame, end=end: end())
        try:
            interrupted(client.start, lambda client=client: client.pid > 0)
        except ClosedError as error:
            print("killed while it started" in str(error), client.exited())
    print("cancelled")


def handler() -> None:
    """A signal handler that returns runs during the call, which goes on."""
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


if __name__ == "__main__":
    main(
        unary, with_call, future, ask, requests, ready, server, stream, dial, start, killer, handler
    )
