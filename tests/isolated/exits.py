"""Ways in which an interpreter ends with something of ours still alive."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
import time
from typing import Any

from host import DEADLINE, hanging, main, make_client, pb, wait_until

from pygo_plugin.errors import PluginError

kept: list[Any] = []  # alive until the modules go
never = threading.Event()


def client() -> None:
    for _ in range(2):
        kept.append(make_client())
        kept[-1].start()
        print(kept[-1].pid, flush=True)


def used_by(use: Any) -> None:
    started = make_client()
    _, probe = started.dispense("probe")
    print(started.pid, flush=True)
    kept.extend([started, probe, use(probe)])


def future() -> None:
    def use(probe: Any) -> Any:
        call = probe.Hang.future(pb.HangRequest())
        call.add_done_callback(kept.append)
        wait_until(lambda: hanging(probe))
        return call

    used_by(use)


def stream() -> None:
    def use(probe: Any) -> Any:
        call = probe.Count(pb.CountRequest(n=1000, size=1000))
        next(call)
        return call

    used_by(use)


def requests() -> None:
    never = threading.Event()

    def endless() -> Any:
        yield pb.ChatMessage(payload=b"x")
        never.wait()

    def use(probe: Any) -> Any:
        call = probe.Chat(endless())
        next(call)
        return call

    used_by(use)


def subscription() -> None:
    seen = threading.Event()
    started = make_client()
    channel, _ = started.dispense("probe")
    channel.subscribe(lambda state: seen.set(), try_to_connect=True)
    seen.wait(DEADLINE)
    print(started.pid, flush=True)
    kept.append(channel)


def thread() -> None:
    """The main thread ends long before the thread that uses the plugin."""
    main_thread = threading.main_thread()

    def run() -> None:
        started = make_client()
        _, probe = started.dispense("probe")
        print(started.pid, flush=True)
        main_thread.join(DEADLINE)
        assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
        kept.append(started)

    threading.Thread(target=run).start()


def daemons() -> None:
    """Daemon threads call in every way while the interpreter ends."""
    started = make_client()
    print(started.start() and started.pid, flush=True)
    going = threading.Semaphore(0)

    def call(way: int) -> None:
        _, probe = started.dispense("probe")
        try:
            while True:
                if way == 0:
                    probe.Echo(pb.EchoRequest())
                elif way == 1:
                    probe.Echo.future(pb.EchoRequest()).result()
                elif way == 2:
                    list(probe.Count(pb.CountRequest(n=10)))
                elif way == 3:
                    going.release()
                    probe.Hang(pb.HangRequest())
                else:
                    list(probe.Chat(iter([pb.ChatMessage()] * 10)))
                going.release()
        except Exception:
            return  # the plugin was killed below us

    for way in range(5):
        threading.Thread(target=call, args=(way,), daemon=True).start()
    for _ in range(50):
        going.acquire()


def server() -> None:
    serve(block=False)


def busy_server() -> None:
    serve(block=True)


def serve(block: bool, behavior: Any = None) -> None:
    import grpc

    from pygo_plugin._grpc.channel import Channel
    from pygo_plugin._grpc.server import Server

    entered = threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        ended = threading.Event()
        context.add_callback(ended.set)
        entered.set()
        if block:
            ended.wait(DEADLINE)
        return request

    directory = tempfile.TemporaryDirectory()
    target = f"unix:{directory.name}/socket"
    made = Server()
    made.add_insecure_port(target)
    handler = grpc.unary_unary_rpc_method_handler(behavior or answer)
    made.add_registered_method_handlers("test.T", {"M": handler})
    made.start()
    channel = Channel(target)
    kept.extend([made, channel, channel.unary_unary("/test.T/M").future(b"")])
    assert behavior or entered.wait(DEADLINE)
    atexit.register(directory.cleanup)


def stuck_servers() -> None:
    """All servers are stopped within the same second, not one after another."""
    ends: list[float] = []

    def late() -> None:
        if time.monotonic() - ends[0] > len(servers) - 1:
            os.write(1, b"too late")

    servers = range(8)
    atexit.register(late)  # before the package's, and so after it
    entered = threading.Semaphore(0)
    for _ in servers:
        serve(block=False, behavior=lambda request, context: (entered.release(), never.wait()))
    for _ in servers:
        entered.acquire(timeout=DEADLINE)
    ends.append(time.monotonic())


def kill_at_exit() -> None:
    """A handler that was registered first runs last, when the plugin has ended."""
    started = make_client()

    def late() -> None:
        os.write(1, f"{started.exited()}\n".encode())
        started.kill()

    atexit.unregister(late)
    atexit.register(late)
    started.start()
    print(started.pid, flush=True)


def running_call() -> None:
    """A call that still runs does not delay the plugin's exit."""
    started = make_client()
    atexit.register(lambda: os.write(1, f"{started.exit_status}\n".encode()))
    _, probe = started.dispense("probe")
    kept.append(probe.Hang.future(pb.HangRequest()))
    wait_until(lambda: hanging(probe))


def stuck(entered: threading.Event) -> Any:
    """A function that does not return."""

    def wait(*arguments: Any) -> None:
        entered.set()
        never.wait()

    return wait


def stuck_callback() -> None:
    entered = threading.Event()
    started = make_client(on_exit=stuck(entered))
    started.start()
    print(started.pid, flush=True)
    started.kill()
    assert entered.wait(DEADLINE)


def stuck_writer() -> None:
    entered = threading.Event()

    class Writer:
        write = staticmethod(stuck(entered))

    started = make_client(stderr=Writer())
    _, probe = started.dispense("probe")
    print(started.pid, flush=True)
    line = pb.Line(channel="LOG", text=b"not delivered", level="error")
    probe.Print(pb.PrintRequest(lines=[line]), timeout=DEADLINE)
    assert entered.wait(DEADLINE)


def starting() -> None:
    """Daemon threads that start one plugin after the other, and kill none."""
    started = threading.Semaphore(0)

    def start() -> None:
        while True:
            with contextlib.suppress(PluginError):
                kept.append(make_client())
                kept[-1].start()
                started.release()

    for _ in range(4):
        threading.Thread(target=start, daemon=True).start()
    for _ in range(4):
        assert started.acquire(timeout=DEADLINE)
    print(*[client.pid for client in kept if client.pid > 0], sep="\n", flush=True)


def unused() -> None:
    """Made, and never started."""
    kept.append(make_client())


main(
    client,
    future,
    stream,
    requests,
    subscription,
    thread,
    daemons,
    server,
    busy_server,
    stuck_servers,
    kill_at_exit,
    running_call,
    stuck_callback,
    stuck_writer,
    starting,
    unused,
)
