"""Programs whose threads are shared by green threads.

Whatever waits here is ended by another greenlet, and so only if it lets that run.
"""

from __future__ import annotations

import sys

if sys.argv[1] == "eventlet":
    import eventlet

    eventlet.monkey_patch()
elif sys.argv[1] != "unpatched":
    from gevent import monkey

    monkey.patch_all()

import contextlib
import io
import logging
import os
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import grpc
import probe_pb2 as pb
from certificates import Authority
from gevent.event import Event
from gevent.queue import Queue
from host import DEADLINE, command, main, make_client

from pygo_plugin import Client, ConfigError, rpc


class Blocking:
    """A server whose methods wait until they are released."""

    def __init__(self) -> None:
        self._entered, self._enter = os.pipe()
        self._released, self._release = os.pipe()
        self._resumed, self._resume = os.pipe()
        self.ended: list[bool] = []
        self.in_never = 0  # handlers of Never that run

    def unary(self, request: bytes, context: Any) -> bytes:
        context.add_callback(lambda: self.ended.append(True))
        self._wait()
        return request

    def never(self, request: bytes, context: Any) -> bytes:
        """Returns when its call has ended. Not released like the others: it may never be called."""
        self.in_never += 1
        read, write = os.pipe()
        if context.add_callback(lambda: os.write(write, b"x")):
            os.read(read, 1)
        os.close(read)
        os.close(write)
        self.in_never -= 1
        return request

    def replies(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        self._wait()
        yield b"second"

    def requests(self, messages: Iterator[bytes], context: Any) -> bytes:
        self._wait()
        return b"%d" % sum(map(len, messages))

    def _wait(self) -> None:
        os.write(self._enter, b"x")
        os.read(self._released, 1)
        os.write(self._resume, b"x")

    def wait_for_method(self) -> None:
        gevent.os.tp_read(self._entered, 1)

    def release(self) -> None:
        """Waits until a method waits, and lets it go on. It has gone on when this returns."""
        self.wait_for_method()
        self.let_go_on()

    def let_go_on(self) -> None:
        os.write(self._release, b"x")
        gevent.os.tp_read(self._resumed, 1)

    def handlers(self) -> dict[str, Any]:
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Never": grpc.unary_unary_rpc_method_handler(self.never),
            "Replies": grpc.unary_stream_rpc_method_handler(self.replies),
            "Requests": grpc.stream_unary_rpc_method_handler(self.requests),
        }


@contextlib.contextmanager
def serving(blocking: Blocking) -> Iterator[tuple[Any, Any]]:
    server = rpc.server()
    server.add_registered_method_handlers("t", blocking.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    assert server.stop(None).wait(DEADLINE)


def calls() -> None:
    """All kinds of calls, and all ways to wait for them."""
    blocking = Blocking()
    with serving(blocking) as (_, channel):
        unary = channel.unary_unary("/t/Unary")

        def during(wait: Callable[[], Any]) -> None:
            releasing = gevent.spawn(blocking.release)
            print(wait())
            releasing.join(DEADLINE)

        during(lambda: unary(b"unary", timeout=DEADLINE))
        during(lambda: unary.with_call(b"with_call", timeout=DEADLINE)[0])
        during(lambda: unary.future(b"future", timeout=DEADLINE).result())
        during(lambda: unary.future(b"", timeout=DEADLINE).code().name)
        during(lambda: list(channel.unary_stream("/t/Replies")(b"", timeout=DEADLINE)))
        large = (b"x" * 1_000_000 for _ in range(50))  # which flow control holds up meanwhile
        during(lambda: channel.stream_unary("/t/Requests")(large, timeout=DEADLINE))

        queue: Any = Queue()
        gevent.spawn_later(0, lambda: [queue.put(item) for item in (b"a", b"b", None)])
        during(lambda: channel.stream_unary("/t/Requests")(iter(queue.get, None), timeout=DEADLINE))

        many = [gevent.spawn(unary, b"%d" % i, timeout=DEADLINE) for i in range(40)]
        for _ in many:
            blocking.release()
        print(sorted(int(one.get(timeout=DEADLINE)) for one in many) == list(range(40)))


def given_up() -> None:
    """Calls are cancelled when their greenlet is interrupted or killed."""
    blocking = Blocking()
    with serving(blocking) as (_, channel):
        unary = channel.unary_unary("/t/Unary")
        caller = gevent.getcurrent()

        def time_out() -> None:
            """Does as a gevent.Timeout that expires once the method waits."""
            blocking.wait_for_method()
            gevent.kill(caller, gevent.Timeout)

        gevent.spawn(time_out)
        try:
            unary(b"")
        except gevent.Timeout:
            print("timeout")
        blocking.let_go_on()
        killed = gevent.spawn(unary, b"")
        entered = gevent.spawn(blocking.wait_for_method)
        entered.join(DEADLINE)
        killed.kill(timeout=DEADLINE)
        blocking.let_go_on()
        print("killed", killed.successful())
        while len(blocking.ended) < 2:
            gevent.sleep(0.01)
        try:
            channel.unary_unary("/t/Never")(b"", timeout=0.1)
        except grpc.RpcError as error:
            print(error.code().name)
        while blocking.in_never:  # or its callback is interrupted
            gevent.sleep(0.01)

        def interrupt() -> None:
            os.read(blocking._entered, 1)
            os.kill(os.getpid(), signal.SIGINT)

        gevent.get_hub().exception_stream = None  # it prints the interrupt otherwise
        gevent.get_hub().threadpool.spawn(interrupt)  # or Python would interrupt this greenlet
        try:
            unary(b"", timeout=DEADLINE)
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
        blocking.let_go_on()


def callbacks() -> None:
    """All callbacks but handlers run in greenlets of the main thread, and can share its locks."""
    native = monkey.get_original("_thread", "get_ident")
    main_thread = native()
    seen: dict[str, bool] = {}

    def note(name: str) -> None:
        seen[name] = seen.get(name, True) and native() == main_thread
        gevent.sleep(0)  # lets others run with the lock held, if there is one

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note("log handler")

    class Writer(io.StringIO):
        def write(self, text: str) -> int:
            note("writer")
            return len(text)

    class Credentials(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            note("credentials")
            callback((), None)

    logger = logging.getLogger("p")
    logger.addHandler(Handler())

    def log(client: Client) -> None:
        _, probe = client.dispense("probe")
        channels = (pb.Line.LOG, pb.Line.STDOUT)
        lines = [pb.Line(channel=one, text=b"x\n", level="error") for one in channels]
        for _ in range(50):
            probe.Print(pb.PrintRequest(lines=lines, repeat=5), timeout=DEADLINE)
            logger.error("x")

    exited = Event()

    def on_exit(client: Client, status: int | None) -> None:
        note("on_exit")
        exited.set()

    with make_client(logger=logger, sync_stdout=Writer(), on_exit=on_exit) as client:
        client.start()
        gevent.joinall([gevent.spawn(log, client) for _ in range(4)], DEADLINE, raise_error=True)
    exited.wait(DEADLINE)
    authority = Authority("us")
    pair = authority.issue("server", "localhost")
    server = rpc.server()
    server.add_registered_method_handlers("t", {"E": grpc.unary_unary_rpc_method_handler(echo)})
    port = server.add_secure_port("127.0.0.1:0", rpc.ssl_server_credentials([pair]))
    server.start()
    credentials = rpc.composite_channel_credentials(
        rpc.ssl_channel_credentials(authority.root), rpc.metadata_call_credentials(Credentials())
    )
    with rpc.secure_channel(f"localhost:{port}", credentials) as channel:
        called = Event()
        future = channel.unary_unary("/t/E").future(b"x", timeout=DEADLINE)
        future.add_done_callback(lambda done: (note("callback"), called.set()))
        called.wait(DEADLINE)
    assert server.stop(None).wait(DEADLINE)
    print(sorted(seen), all(seen.values()))


def left_alone() -> None:
    """A plugin that still runs and logs when the program ends."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    client = make_client()
    _, probe = client.dispense("probe")
    probe.Print(pb.PrintRequest(lines=[pb.Line(channel=pb.Line.LOG, text=b"x", level="error")]))
    global kept
    kept = client


def life() -> None:
    """Waits for plugins and servers."""
    with tempfile.TemporaryDirectory() as directory:
        fifo = f"{directory}/fifo"
        os.mkfifo(fifo)
        script = f"read line < {fifo}; exec {shlex.join(command())}"
        client = make_client(["/bin/sh", "-c", script])

        def go_on() -> None:
            with open(gevent.get_hub().threadpool.apply(os.open, (fifo, os.O_WRONLY)), "w") as file:
                file.write("go\n")

        gevent.spawn(go_on)
        print("started", client.start().network())
        _, probe = client.dispense("probe")
        print(probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload)
        print(repr(client.ping()))
        client.kill()
    with serving(Blocking()) as (server, _):
        gevent.spawn_later(0, server.stop, None)
        print("terminated", not server.wait_for_termination(DEADLINE))
    late = rpc.server()
    late.add_registered_method_handlers("t", {"E": grpc.unary_unary_rpc_method_handler(echo)})
    port = late.add_insecure_port("127.0.0.1:0")
    with rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        gevent.spawn_later(0, late.start)
        print(channel.unary_unary("/t/E")(b"late", wait_for_ready=True, timeout=DEADLINE))
    print("stopped", late.stop(None).wait(DEADLINE))


def echo(request: bytes, context: Any) -> bytes:
    return request


def unpatched() -> None:
    """Greenlets without patches, and calls from the hub, which cannot wait for itself."""
    blocking = Blocking()
    with serving(blocking) as (_, channel):
        unary = channel.unary_unary("/t/Unary")
        releasing = gevent.spawn(blocking.release)
        print(unary(b"x", timeout=DEADLINE))
        releasing.join(DEADLINE)
        found: list[Any] = []
        os.write(blocking._release, b"x")
        gevent.get_hub().loop.run_callback(lambda: found.append(unary(b"hub", timeout=DEADLINE)))
        while not found:
            gevent.sleep(0.01)
        print(found)


def eventlet() -> None:
    """Refused."""
    client = make_client()
    for attempt in (client.start, lambda: rpc.insecure_channel("unix:/x"), rpc.server):
        try:
            attempt()
        except ConfigError as error:
            print("eventlet has monkey-patched" in str(error))


main(calls, given_up, callbacks, left_alone, life, unpatched, eventlet)
