"""net/rpc with peers that break the rules, die, or do not read."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_rpc
from raw_rpc import Nothing, RawListener, RawPeer

from pygo_plugin import CallTimeoutError, ClosedError, ForkedError, GobError, gob, netrpc

PATIENCE = 60.0  # seconds


class Echo:
    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()

    def echo(self, value):  # type: ignore[no-untyped-def]
        return value

    def blow_up(self, size: int) -> bytes:
        self.calls += 1
        return bytes(size)

    def wait(self, value: int) -> int:
        assert self.go.wait(PATIENCE)
        return value


# ---- Servers -------------------------------------------------------------------------------------


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[RawListener]:
    made = RawListener(f"{tmp_path}/raw")
    yield made
    made.close()


@pytest.fixture
def pair(listener: RawListener) -> Iterator[tuple[netrpc.Client, RawPeer]]:
    """A client, and the server that it is connected to."""
    with netrpc.connect(listener.address) as client, listener.accept() as server:
        yield client, server


def test_what_goes_over_the_wire(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    futures = [client.go("A.B", f"{i}", str) for i in range(3)]
    assert [server.read_request() for _ in futures] == [("A.B", i, f"{i}") for i in range(3)]
    for i in (2, 0, 1):
        server.answer(i, f"reply {i}")
        assert futures[i].result(PATIENCE) == f"reply {i}"


def test_answers_that_nothing_waits_for_are_dropped(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    future = client.go("A.B", 1, int)
    server.read_request()
    server.answer(99, "of no call")
    server.answer(98, Nothing(), error="of no call")
    server.answer(0, 5)
    server.answer(0, 6)  # twice
    assert future.result(PATIENCE) == 5
    second = client.go("A.B", 2, int)
    server.read_request()
    server.answer(0, 7)
    server.answer(1, 8)
    assert second.result(PATIENCE) == 8


def test_an_answer_that_never_comes(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, _ = pair
    for _ in range(3):
        with pytest.raises(CallTimeoutError):
            client.call("A.B", 1, timeout=0.02)


def test_a_reply_of_a_wrong_type(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    future = client.go("A.B", 1, int)
    server.answer(0, Nothing())
    with pytest.raises(GobError, match="the stream has"):
        future.result(PATIENCE)
    future = client.go("A.B", 1, int)
    server.answer(1, 3)
    assert future.result(PATIENCE) == 3


def test_heads_with_other_fields(pair: tuple[netrpc.Client, RawPeer]) -> None:
    @gob.struct
    class Reversed:
        extra: list[int] = gob.field(default_factory=list)
        error: str = ""
        seq: gob.Uint = 0

    client, server = pair
    futures = [client.go("A.B", i, int) for i in range(2)]
    server.send(Reversed([1, 2], "failed", 1), Nothing(), Reversed([], "", 0), 4)
    assert futures[0].result(PATIENCE) == 4
    assert str(futures[1].exception(PATIENCE)) == "failed"


def huge_message() -> bytes:
    return b"\xf8" + b"\x7f" * 8  # a count of bytes


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 64,
        b"\xff" * 512,
        b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n" + b"x" * 100,
        huge_message(),
        b"\x03\x04\x00\x05",
    ],
    ids=["zeros", "ones", "http", "huge", "unknown type"],
)
def test_garbage_of_a_server(pair: tuple[netrpc.Client, RawPeer], garbage: bytes) -> None:
    client, server = pair
    future = client.go("A.B", 1, int)
    server.read_request()
    server.send_bytes(garbage)
    with pytest.raises(ClosedError, match="connection is shut down: an answer cannot be read: "):
        future.result(PATIENCE)
    with pytest.raises(ClosedError, match="connection is shut down"):
        client.call("A.B", 1)
    assert client.closed
    assert server.ends()


def test_a_head_that_is_none(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    future = client.go("A.B", 1, int)
    server.send("not a Response")
    with pytest.raises(ClosedError, match="an answer cannot be read"):
        future.result(PATIENCE)


def test_a_server_that_ends_in_the_middle(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    future = client.go("A.B", 1, int)
    server.read_request()
    server.send(raw_rpc.Response("A.B", 0, ""))
    server.close()
    with pytest.raises(ClosedError, match="the other side has ended it in the middle of an answer"):
        future.result(PATIENCE)


def test_a_server_that_does_not_read(pair: tuple[netrpc.Client, RawPeer]) -> None:
    client, server = pair
    before = resident()
    for _ in range(200):
        with pytest.raises(CallTimeoutError):
            client.call("A.B", bytes(1_000_000), timeout=0.001)
    assert resident() - before < 50_000_000
    future = client.go("A.B", 7, int)  # sent when those before have been read or given up
    _, seq, value = server.read_request()
    while value != 7:
        _, seq, value = server.read_request()
    server.answer(seq, 8)
    assert future.result(PATIENCE) == 8


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# ---- Clients -------------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo, tmp_path: Path) -> Iterator[netrpc.Server]:
    with netrpc.listen(f"unix:{tmp_path}/s", echo, max_workers=4) as made:
        yield made
    echo.go.set()
    assert made.wait(PATIENCE)


def test_answers_of_a_server(server: netrpc.Server) -> None:
    with raw_rpc.dial(server.address) as client:
        client.request("Echo.Echo", 2**64 - 1, "x")
        assert client.read_answer() == (2**64 - 1, "", "x")
        client.request("Echo.Nope", 5, {"a": 1})  # its argument is skipped
        seq, error, value = client.read_answer()
        assert (seq, error) == (5, "rpc: can't find method Echo.Nope")
        assert value.to_dict() == {}
        client.request("Echo.BlowUp", 6, "no int")
        seq, error, _ = client.read_answer()
        assert (seq, error) == (6, "Echo.blow_up: int: the stream has a string, the class an int")
        client.request("Echo.Echo", 7, "y")
        client.request("Echo.Echo", 7, "z")  # the same number: both are answered
        assert sorted(client.read_answer()[2] for _ in range(2)) == ["y", "z"]


def test_a_client_that_ends_its_direction_gets_its_answers(
    server: netrpc.Server, echo: Echo
) -> None:
    with raw_rpc.dial(server.address) as client:
        client.request("Echo.Wait", 1, 3)
        client.socket.shutdown(socket.SHUT_WR)
        echo.go.set()
        assert client.read_answer() == (1, "", 3)
        assert client.ends()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 64, b"\xff" * 512, b"GET / HTTP/1.1\r\n" + b"x" * 100, huge_message()],
    ids=["zeros", "ones", "http", "huge"],
)
def test_garbage_of_a_client(server: netrpc.Server, garbage: bytes) -> None:
    with raw_rpc.dial(server.address) as client:
        client.request("Echo.Echo", 1, "x")
        assert client.read_answer() == (1, "", "x")
        client.send_bytes(garbage)
        assert client.ends()
    with netrpc.connect(server.address) as other:
        assert other.call("Echo.Echo", "x") == "x"


def flood(client: RawPeer) -> None:
    for i in range(1_000_000):
        client.request("Echo.BlowUp", i, 1_000_000)


def test_a_client_that_floods_and_does_not_read(server: netrpc.Server, echo: Echo) -> None:
    before = resident()
    with raw_rpc.dial(server.address) as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # it is blocked, however much it sends
            flood(client)
        assert echo.calls < 200
        assert resident() - before < 100_000_000
        with netrpc.connect(server.address) as other:
            assert other.call("Echo.Echo", "x") == "x"
        client.socket.settimeout(PATIENCE)
        for _ in range(echo.calls):
            assert len(client.read_answer()[2]) == 1_000_000


def test_closing_does_not_wait_for_each_client(tmp_path: Path) -> None:
    echo = Echo()
    server = netrpc.listen(f"unix:{tmp_path}/closing", echo)
    clients = [raw_rpc.dial(server.address) for _ in range(100)]
    for client in clients:
        client.request("Echo.BlowUp", 1, 400_000)
    with netrpc.connect(server.address) as last:
        assert last.call("Echo.Echo", "x") == "x"
    server.close()  # with answers that are not read
    assert server.wait(PATIENCE)
    for client in clients:
        client.close()


def test_many_connections_that_say_nothing(server: netrpc.Server) -> None:
    silent = [raw_rpc.dial(server.address) for _ in range(100)]
    with netrpc.connect(server.address) as client:
        assert client.call("Echo.Echo", "x") == "x"
    for connection in silent:
        connection.close()


def test_a_server_without_descriptors(tmp_path: Path) -> None:
    script = """
        import resource, socket, sys
        from pygo_plugin import netrpc

        class Echo:
            def echo(self, value: str) -> str:
                return value

        path = sys.argv[1]
        server = netrpc.listen(f"unix:{path}", Echo())
        with netrpc.connect(server.address) as client:
            assert client.call("Echo.Echo", "x", str) == "x"
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        held = []
        try:
            while True:
                held.append(socket.socket(socket.AF_UNIX))
        except OSError:
            pass
        held.pop().close()
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(path)  # cannot be accepted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with netrpc.connect(server.address, timeout=60) as client:
            assert client.call("Echo.Echo", "y", str, timeout=60) == "y"
        server.close()
    """
    run_script(script, f"{tmp_path}/s")


# ---- Processes -----------------------------------------------------------------------------------


def run_script(script: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


SERVER = """
    import sys, threading
    from pygo_plugin import netrpc

    class Echo:
        def echo(self, value: str) -> str:
            return value
        def wait(self, value: str) -> None:
            print("waiting", flush=True)
            threading.Event().wait()

    with netrpc.listen("unix:" + sys.argv[1], Echo()) as server:
        print("ready", flush=True)
        server.wait()
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), f"{tmp_path}/p"],
        stdout=subprocess.PIPE,
        text=True,
    ) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == "ready\n"
        yield made
        made.kill()


def test_a_server_that_is_killed_during_a_call(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    with netrpc.connect(f"unix:{tmp_path}/p") as client:
        assert client.call("Echo.Echo", "x") == "x"
        calls = [client.go("Echo.Wait", "x", None) for _ in range(3)]
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.kill()
        for call in calls:
            with pytest.raises(ClosedError, match="connection is shut down: "):
                call.result(PATIENCE)


def test_ctrl_c_interrupts_a_call(process: subprocess.Popen[str], tmp_path: Path) -> None:
    with netrpc.connect(f"unix:{tmp_path}/p") as client:
        assert process.stdout is not None

        def interrupt() -> None:
            process.stdout.readline()  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGINT)

        for _ in range(2):
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                client.call("Echo.Wait", "x", None)
            thread.join()
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.go("Echo.Wait", "x", None).result()
        thread.join()
        assert client.call("Echo.Echo", "x", str) == "x"


def test_a_forked_child(process: subprocess.Popen[str], tmp_path: Path) -> None:
    client = netrpc.connect(f"unix:{tmp_path}/p")
    future = client.go("Echo.Wait", "x", None)
    assert client.call("Echo.Echo", "x", str) == "x"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (
                lambda: client.call("Echo.Echo", "x", str),
                lambda: client.go("Echo.Echo", "x", str),
                lambda: future.result(),
                lambda: netrpc.connect(f"unix:{tmp_path}/p"),
            ):
                with pytest.raises(ForkedError):
                    use()
            client.close()
            del client, future
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.call("Echo.Echo", "y", str) == "y"  # the connection is as it was
    assert not future.done()
    client.close()


def test_the_interpreter_exits_during_calls(tmp_path: Path) -> None:
    script = """
        import sys, threading
        from pygo_plugin import netrpc

        class Echo:
            def wait(self, value: str) -> None:
                begun.release()
                threading.Event().wait()
            def call(self, value: str) -> None:
                client.call("Echo.Wait", value, None)

        begun = threading.Semaphore(0)
        server = netrpc.listen("unix:" + sys.argv[1], Echo())
        client = netrpc.connect(server.address)
        futures = [client.go("Echo.Wait", "x", None), client.go("Echo.Call", "x", None)]
        futures[0].add_done_callback(lambda _: None)
        for _ in range(2):
            threading.Thread(
                target=client.call, args=("Echo.Wait", "x", None), daemon=True
            ).start()
        for _ in range(4):
            begun.acquire()
        print("bye")
    """
    assert run_script(script, f"{tmp_path}/s") == "bye\n"


def test_greenlets_run_while_one_calls(tmp_path: Path) -> None:
    script = """
        import sys, threading
        import gevent
        from pygo_plugin import netrpc

        class Echo:
            def __init__(self):
                self.event = threading.Event()
            def wait(self, value: int) -> int:
                assert self.event.wait(60)
                return value
            def echo(self, value: int) -> int:
                return value

        def wait():
            finished.append(client.call("Echo.Wait", 1, int))

        def expire():
            try:
                client.call("Echo.Wait", 0, int, timeout=0.01)
            except TimeoutError:
                finished.append("timeout")

        def release():
            finished.append(client.go("Echo.Echo", 2, int).result())
            echo.event.set()

        echo, finished = Echo(), []
        with netrpc.listen("unix:" + sys.argv[1], echo) as server:
            with netrpc.connect(server.address) as client:
                waiting = gevent.spawn(wait)
                gevent.spawn(expire).get()
                gevent.spawn(release).get()
                waiting.get()
        print(finished)
    """
    assert run_script(script, f"{tmp_path}/s") == "['timeout', 2, 1]\n"


def test_descriptors_are_closed(server: netrpc.Server) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with netrpc.connect(server.address) as client:
        client.call("Echo.Echo", "x")
    before = descriptors()
    for _ in range(50):
        with netrpc.connect(server.address) as client:
            client.call("Echo.Echo", "x")
    give_up = 0
    while descriptors() > before and give_up < 1000:  # the server's ends close a moment later
        give_up += 1
        threading.Event().wait(0.01)
    assert descriptors() <= before


def test_memory_does_not_grow(server: netrpc.Server) -> None:
    with netrpc.connect(server.address) as client:

        def use(count: int) -> None:
            for i in range(count):
                client.call("Echo.Echo", {"key": [i, "text"]})
                client.go("Echo.Echo", "x").result(PATIENCE)

        use(500)
        before = resident()
        use(3000)
        assert resident() - before < 3_000_000
