"""Processes that a host makes while its plugins run."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from host import DEADLINE, command, exists, main, make_client, pb, wait_until
from pygo_plugin_peer import HANDSHAKE, plugins

from pygo_plugin import ClosedError, ForkedError, aio, rpc


@contextmanager
def calling(client: Any) -> Iterator[None]:
    """Two threads call during the block. It fails if a call does."""
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
    from pygo_plugin._grpc.channel import Channel
    from pygo_plugin._grpc.server import Server

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
            lambda: Channel("unix:/nowhere"),
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
    """Children that do not use the plugin, and end by os._exit or with the interpreter."""
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


# ---- Parents that leave gRPC to their children ---------------------------------------------------


def use_plugin() -> Any:
    """What is left of a plugin that was used, a server of the broker's included, and killed."""
    client = make_client()
    channel, probe = client.dispense("probe")
    assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
    assert len(list(probe.Count(pb.CountRequest(n=3), timeout=DEADLINE))) == 3
    server = client.broker.accept_and_serve(client.broker.next_id(), lambda _: None)
    client.kill()
    return client, channel, probe, server


def use_server() -> Any:
    """What is left of a server that was called, and stopped."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server = rpc.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.T", {"M": handler}),)
    )
    with tempfile.TemporaryDirectory() as directory:
        target = f"unix:{directory}/s"
        server.add_insecure_port(target)
        server.start()
        with rpc.insecure_channel(target) as channel:
            method = channel.unary_unary("/test.T/M")
            for _ in range(100):
                assert method(b"x", timeout=DEADLINE) == b"x"
        assert server.stop(None).wait(DEADLINE)
    return server, channel, method


def use_asyncio() -> None:
    async def run() -> None:
        options = {"handshake_config": HANDSHAKE, "plugins": plugins()}
        async with aio.Client(command(), **options) as client:
            _, probe = await client.dispense("probe")
            reply = await probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
            assert reply.payload == b"x"

    asyncio.run(run())


USES = (use_plugin, use_server, use_asyncio)


def use_everything() -> Any:
    return [use() for use in USES]


def watched() -> int:
    """How many descriptors are in the epoll sets of this process, gRPC's included."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                lines = Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
                found += sum(line.startswith("tfd:") for line in lines)
        except FileNotFoundError:
            pass
    return found


def workers(count: int) -> list[int]:
    """The exit statuses of children that use everything at the same time."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            use_everything()
            sys.exit(7)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def imported() -> None:
    """A server that forks its workers once it has imported everything."""
    print(workers(3))


def killed() -> None:
    """The parent has used everything, and goes on using it while its children do."""
    left = use_everything()
    thread = threading.Thread(target=use_everything)
    print(workers(3), end=" ")
    thread.start()
    thread.join()
    print(workers(1))
    client, _, probe, broker_server = left[0]
    server, channel, method = left[1]

    def check() -> int:
        closed = 0
        for use in (
            client.start,
            client.new_channel,
            lambda: probe.Echo(pb.EchoRequest()),
            lambda: method(b""),
        ):
            try:
                use()
            except ClosedError:
                closed += 1
        # None of these may hang, or touch anything of the parent's.
        client.kill()
        channel.close()
        server.stop(None).wait()
        broker_server.stop(None).wait()
        return closed

    print(in_child(check), check())


def together() -> None:
    """Parent and children call at the same time, with descriptors that they do not share."""
    use_everything()
    ready, go_on = os.pipe(), os.pipe()

    def check() -> int:
        with make_client() as client:
            _, probe = client.dispense("probe")
            probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
            os.write(ready[1], b"x")
            os.read(go_on[0], 1)
            for _ in range(300):
                probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
        return 7

    pids = []
    assert in_child(lambda: 7) == 7  # from here on gRPC does not run
    before = watched()
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            sys.exit(check())
        pids.append(pid)
        os.read(ready[0], 1)
    print(watched() - before)
    os.write(go_on[1], b"xx")
    print(check_in_parent(), [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])


def check_in_parent() -> int:
    with make_client() as client:
        _, probe = client.dispense("probe")
        for _ in range(300):
            probe.Echo(pb.EchoRequest(), timeout=DEADLINE)
    return 7


def nested() -> None:
    def generation(left: int) -> int:
        use_everything()
        return in_child(lambda: generation(left - 1)) if left else 7

    print(generation(3))


def exits() -> None:
    """Each process ends its own plugins when its interpreter exits, and no others."""
    use_plugin()
    children, parents = os.pipe(), os.pipe()

    def check() -> int:
        client = make_client()
        client.start()
        os.write(children[1], f"{client.pid}\n".encode())
        os.read(parents[0], 1)
        return 7

    pid = os.fork()
    if pid == 0:
        sys.exit(check())
    theirs = int(os.read(children[0], 100))
    with make_client() as client:
        client.start()
        os.write(parents[1], b"x")
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), end=" ")
        wait_until(lambda: not exists(theirs))
        print(repr(client.ping()))


def pool() -> None:
    use_everything()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, context) as executor:
        print([future.result(DEADLINE) for future in [executor.submit(in_pool) for _ in range(4)]])


def in_pool() -> int:
    use_everything()
    return 7


def own_fork() -> None:
    use_everything()
    context: Any = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=task, args=(command(), results))
    child.start()
    print(results.get(timeout=2 * DEADLINE))
    child.join()
    print(child.exitcode)


def reasons() -> None:
    """What keeps gRPC running, by number; nothing else does."""
    credentials = rpc.access_token_call_credentials("x")
    channel = rpc.insecure_channel("unix:/nowhere")
    server = rpc.server()

    def reason() -> int:
        try:
            rpc.server()
        except ForkedError as error:
            print(re.findall(r"\w+: \d", str(error)), flush=True)
            return 1
        return 0

    print(in_child(reason))
    channel.close()
    print(in_child(reason))
    del credentials
    print(in_child(reason))
    del server
    print(in_child(reason))


if __name__ == "__main__":
    main(
        *(use, leave, fork, spawn, forkserver, programs),
        *(imported, killed, together, nested, exits, pool, own_fork, reasons),
    )
