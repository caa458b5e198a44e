"""Processes that a host makes while its plugins run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from host import DEADLINE, command, main, make_client, pb

from pygo_plugin import ForkedError


@contextmanager
def calling(client: Any) -> Iterator[None]:
    """Two threads call all the while; the block may only fail if they do."""
    stop = threading.Event()
    problems: list[BaseException] = []

    def call() -> None:
        _, probe = client.dispense("probe")
        try:
            while not stop.is_set():
                assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
                assert len(list(probe.Count(pb.CountRequest(n=3), timeout=DEADLINE))) == 3
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == [], problems


def refused(use: Callable[[], Any]) -> bool:
    try:
        use()
    except ForkedError as error:
        return "spawn" in str(error) and "forkserver" in str(error)
    return False


def in_child(check: Callable[[], int]) -> int:
    """Forks, and gives the status that the child leaves with by way of sys.exit."""
    pid = os.fork()
    if pid == 0:
        sys.exit(check())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def use() -> None:
    from pygo_plugin import _channel
    from pygo_plugin._server import Server

    with make_client() as client:
        channel, probe = client.dispense("probe")
        future = probe.Hang.future(pb.HangRequest())
        stream = probe.Count(pb.CountRequest(n=2, delay_ms=60_000))
        server = Server()
        uses: list[Callable[[], Any]] = [
            client.start,
            client.ping,
            client.new_channel,
            lambda: probe.Echo(pb.EchoRequest()),
            lambda: probe.Echo.with_call(pb.EchoRequest()),
            lambda: probe.Echo.future(pb.EchoRequest()),
            lambda: probe.Count(pb.CountRequest()),
            lambda: probe.Sum(iter(())),
            lambda: probe.Chat(iter(())),
            future.result,
            future.code,
            stream.initial_metadata,
            lambda: next(stream),
            make_client().start,
            lambda: _channel.Channel("unix:/nowhere"),
            Server,
            server.start,
            lambda: server.stop(None),
            lambda: server.wait_for_termination(),
        ]

        def check() -> int:
            wrong = [number for number, one in enumerate(uses) if not refused(one)]
            print("not refused:", wrong, flush=True)
            # None of these may hang, or end anything of the parent's.
            channel.close()
            client.kill()
            return 7

        with calling(client):
            for _ in range(3):
                print(in_child(check), flush=True)
        print(repr(client.ping()), client.exited(), future.done())
        future.cancel()


def leave() -> None:
    """Children that never touch the plugin, with and without the interpreter's own end."""
    with make_client() as client, calling(client):
        statuses = set()
        for number in range(10):
            pid = os.fork()
            if pid == 0:
                if number % 2:
                    os._exit(0)
                sys.exit(0)
            statuses.add(os.waitpid(pid, 0)[1])
        print(statuses, client.exited())


def task(argv: list[str], results: Any) -> None:
    """In the child: a plugin of its own."""
    try:
        with make_client(argv) as client:
            _, probe = client.dispense("probe")
            reply = probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
            results.put(repr(reply.payload))
    except ForkedError as error:
        results.put("spawn" in str(error) and "forkserver" in str(error))


def child_by(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    with make_client() as client, calling(client):
        child = context.Process(target=task, args=(command(), results))
        child.start()
        print(results.get(timeout=2 * DEADLINE))
        child.join()
        print(child.exitcode, repr(client.ping()))


def fork() -> None:
    child_by("fork")


def spawn() -> None:
    child_by("spawn")


def forkserver() -> None:
    child_by("forkserver")


def programs() -> None:
    with make_client() as client, calling(client):
        for _ in range(20):
            subprocess.run(["true"], check=True)
        os.system("true")
        print(repr(client.ping()))


if __name__ == "__main__":
    main(use, leave, fork, spawn, forkserver, programs)
