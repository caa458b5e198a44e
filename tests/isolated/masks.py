"""Signals of threads that run the user's code, and of what these start."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import grpc
import probe_pb2 as pb
from host import DEADLINE, command, hanging, main, make_client, wait_until
from interrupts import interrupted
from own_runner import Own
from pygo_plugin_peer import HANDSHAKE, plugins

from pygo_plugin import Client, aio, rpc

masks: dict[str, set[Any]] = {}


def note(name: str) -> None:
    masks.setdefault(name, signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def missing(*names: str) -> set[str]:
    return set(names) - set(masks)


@contextlib.contextmanager
def serving(behavior: Callable[[bytes, Any], bytes], made: Any = None) -> Iterator[Any]:
    """A multicallable for the behavior, which runs on a thread of the core."""
    server = made or rpc.server()
    methods = {"M": grpc.unary_unary_rpc_method_handler(behavior)}
    server.add_registered_method_handlers("t", methods)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary("/t/M")
    assert server.stop(None).wait(DEADLINE)


def call_once(behavior: Callable[[], Any]) -> Any:
    """What the behavior returns in a handler."""
    found: list[Any] = []
    with serving(lambda request, context: found.append(behavior()) or request) as call:
        call(b"", timeout=DEADLINE)
    return found[0]


# ---- Masks ---------------------------------------------------------------------------------------


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note("log handler")


class Writer(io.StringIO):
    def write(self, text: str) -> int:
        note("writer")
        return len(text)


class Plugin(grpc.AuthMetadataPlugin):
    def __call__(self, context: Any, callback: Any) -> None:
        note("credentials")
        callback((), None)


class Runner(Own):
    def wait(self) -> int | None:
        note("runner's wait")
        return super().wait()

    def kill(self) -> None:
        note("runner's kill")
        super().kill()


def host() -> None:
    """Log records, output, the end, callbacks of calls, and runners."""
    logging.getLogger("p").addHandler(Handler())
    logging.getLogger("p").setLevel("DEBUG")
    options: dict[str, Any] = {"logger": logging.getLogger("p"), "sync_stdout": Writer()}
    with make_client(**options, on_exit=lambda client, status: note("on_exit")) as client:
        _, probe = client.dispense("probe")
        call = probe.Echo.future(pb.EchoRequest(), timeout=DEADLINE)
        call.add_done_callback(lambda done: note("callback"))
        channels = (pb.Line.LOG, pb.Line.STDOUT)
        lines = [pb.Line(channel=channel, text=b"x\n") for channel in channels]
        probe.Print(pb.PrintRequest(lines=lines), timeout=DEADLINE)
        wait_until(lambda: not missing("callback", "log handler", "writer"))
    wait_until(lambda: not missing("on_exit"))
    joined = {"handshake_config": HANDSHAKE, "plugins": plugins()}
    with Client(runner=Runner(command()), **joined) as client:
        os.kill(int(client.id.rpartition("-")[2]), signal.SIGSTOP)  # or it would end by itself
    wait_until(lambda: not missing("runner's wait", "runner's kill"))


def server() -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        context.add_callback(lambda: note("context's callback"))
        threading.Thread(target=note, args=("handler's thread",)).start()
        note("handler")
        return request

    with serving(behavior) as call:
        call(b"", timeout=DEADLINE)
        wait_until(lambda: not missing("context's callback", "handler's thread"))


def credentials() -> None:
    from certificates import Authority

    authority = Authority("us")
    pair = authority.issue("server", "localhost")
    made = rpc.server(handlers=[])
    methods = {"M": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
    made.add_registered_method_handlers("t", methods)
    port = made.add_secure_port("127.0.0.1:0", rpc.ssl_server_credentials([pair]))
    made.start()
    of_calls = rpc.metadata_call_credentials(Plugin())
    of_channel = rpc.ssl_channel_credentials(authority.root)
    with rpc.secure_channel(
        f"localhost:{port}", rpc.composite_channel_credentials(of_channel, of_calls)
    ) as channel:
        channel.unary_unary("/t/M")(b"", timeout=DEADLINE)
    assert made.stop(None).wait(DEADLINE)


def asyncio_server() -> None:
    def behavior(request: bytes, context: Any) -> bytes:
        note("asyncio's blocking handler")
        return request

    async def run() -> None:
        made = aio.server()
        methods = {"M": grpc.unary_unary_rpc_method_handler(behavior)}
        made.add_registered_method_handlers("t", methods)
        port = made.add_insecure_port("127.0.0.1:0")
        await made.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.unary_unary("/t/M")(b"", timeout=DEADLINE)
        await asyncio.to_thread(note, "asyncio's thread")
        await made.stop(None)

    asyncio.run(run())


def threads() -> None:
    """The user's code runs with the signal mask that the program has chosen."""
    blocked = {signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    for part in (host, server, credentials, asyncio_server):
        part()
    print(len(masks), {name: mask for name, mask in masks.items() if mask != blocked})


# ---- Children ------------------------------------------------------------------------------------


def terminate_subprocess() -> int:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    process.terminate()
    try:
        return process.wait(DEADLINE / 2)
    finally:
        process.kill()


def terminate_process() -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join(DEADLINE / 2)
    process.kill()
    return process.exitcode


def use_pool() -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(abs, -7).result(DEADLINE)


def children() -> None:
    """Children that a handler starts can be ended, and waited for."""
    for behavior in (terminate_subprocess, terminate_process, use_pool):
        print(call_once(behavior))


# ---- Signals that another thread receives --------------------------------------------------------


def elsewhere() -> None:
    """Waits of the main thread end when a handler's thread is given the signal."""
    receive, leave = threading.Event(), threading.Event()

    def behavior(request: bytes, context: Any) -> bytes:
        while not leave.is_set():
            if receive.wait(0.01):
                receive.clear()
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return request

    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    made = rpc.server()
    with serving(behavior, made) as call, make_client() as client:
        running = call.future(b"")
        _, probe = client.dispense("probe")
        starting = make_client(silent)
        waits: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
            (lambda: probe.Hang(pb.HangRequest()), lambda: hanging(probe)),
            (probe.Hang.future(pb.HangRequest()).result, lambda: hanging(probe)),
            (made.wait_for_termination, lambda: True),
            (starting.start, lambda: starting.pid > 0),
        ]
        for wait, ready in waits:
            interrupted(wait, ready, receive.set)
        starting.kill()
        leave.set()
        running.result(DEADLINE)


if __name__ == "__main__":
    main(threads, children, elsewhere)
