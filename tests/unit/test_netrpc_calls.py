"""net/rpc calls between clients and servers of this package, over connections of their own."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any, Callable

import pytest
from certificates import Authority

from pygo_plugin import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    GobError,
    PluginError,
    ServerError,
    SystemCallError,
    TLSConfig,
    TLSError,
    gob,
    netrpc,
)

PATIENCE = 60.0  # seconds
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@gob.struct
class Args:
    a: int = 0
    b: int = 0


class Events:
    """Events by name, made when one is first asked for."""

    def __init__(self) -> None:
        self.made: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> threading.Event:
        with self._lock:
            return self.made.setdefault(name, threading.Event())


class Desk:
    """What the tests call."""

    def __init__(self) -> None:
        self.event = Events()
        self.client: netrpc.Client | None = None

    def add(self, args: Args) -> int:
        return args.a + args.b

    def echo(self, value):  # type: ignore[no-untyped-def]
        return value

    def text(self, value: str) -> str:
        return value

    def ints(self, value: list[int]) -> list[int]:
        return value[::-1]

    def size(self, value: bytes) -> int:
        return len(value)

    def hello(self) -> str:
        return "hello"

    def nothing(self, value: str) -> None:
        pass

    def fail(self, value: str) -> str:
        raise ValueError(value)

    def fail_silently(self, value: str) -> str:
        raise ServerError(value)

    def fail_basic(self, value: str) -> None:
        raise netrpc.BasicError(value)

    def error_value(self, value: str) -> Any:
        return netrpc.BasicError(value)

    def leave(self, value: int) -> None:
        raise SystemExit(value)

    def wrong_result(self, value: int) -> int:
        return str(value)  # type: ignore[return-value]

    def block(self, name: str) -> str:
        self.event(f"{name} has begun").set()
        assert self.event(name).wait(PATIENCE)
        return name

    def release(self, name: str) -> None:
        self.event(name).set()

    def set_variable(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    def call_back(self, value: str) -> str:
        assert self.client is not None
        return str(self.client.call("Desk.Text", value, str))

    @netrpc.method("Named")
    def something(self, value: int) -> int:
        return -value


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def server(desk: Desk, tmp_path: Path) -> Iterator[netrpc.Server]:
    with netrpc.listen(f"unix:{tmp_path}/s", desk) as made:
        yield made
    for event in desk.event.made.values():
        event.set()
    assert made.wait(PATIENCE)


@pytest.fixture
def client(server: netrpc.Server) -> Iterator[netrpc.Client]:
    with netrpc.connect(server.address) as made:
        yield made


@contextlib.contextmanager
def served(tmp_path: Path, services: Any, **options: Any) -> Iterator[netrpc.Client]:
    """A client of a server of its own."""
    server = netrpc.listen(f"unix:{tmp_path}/own", services, **options)
    with server, netrpc.connect(server.address) as client:
        yield client


# ---- Values --------------------------------------------------------------------------------------


def test_a_typed_call(client: netrpc.Client) -> None:
    assert client.call("Desk.Add", Args(1, 2), reply=int) == 3
    assert client.call("Desk.Add", Args(2, 3), int) == 5
    assert client.call("Desk.Named", 7) == -7


def test_untyped_replies_and_arguments(client: netrpc.Client) -> None:
    assert client.call("Desk.Add", Args(1, 2)) == 3
    for value in ("text", b"bytes", 1.5, -3, True, ["a", 1], {"k": 2}):
        assert client.call("Desk.Echo", value) == value


def test_the_type_of_an_argument(client: netrpc.Client) -> None:
    assert client.call("Desk.Echo", 5, args_type=gob.Uint) == 5
    assert client.call("Desk.Ints", [1, 2], list[int], args_type=list[int]) == [2, 1]
    assert client.call("Desk.Ints", gob.as_type(list[int], [3, 4])) == [4, 3]
    with pytest.raises(ServerError, match="Args: the stream has a uint"):
        client.call("Desk.Add", 5, args_type=gob.Uint)


def test_methods_without_argument_or_result(client: netrpc.Client) -> None:
    assert client.call("Desk.Hello") == "hello"
    assert client.call("Desk.Hello", Args(), str) == "hello"
    assert client.call("Desk.Nothing", "x", None) is None
    assert client.call("Desk.Nothing", "x") is None


def test_a_reply_that_is_dropped(client: netrpc.Client) -> None:
    assert client.call("Desk.Hello", reply=None) is None


def test_large_values(client: netrpc.Client) -> None:
    data = bytes(3_000_000)
    assert client.call("Desk.Size", data, int) == len(data)
    assert client.call("Desk.Echo", data, bytes) == data


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("Desk.Nope", "rpc: can't find method Desk.Nope"),
        ("Nope.Add", "rpc: can't find service Nope.Add"),
        ("Desk", "rpc: service/method request ill-formed: Desk"),
        ("", "rpc: service/method request ill-formed: "),
        ("Desk.Add.x", "rpc: can't find service Desk.Add.x"),
        ("Desk.", "rpc: can't find method Desk."),
    ],
)
def test_unknown_names_have_texts_of_go(client: netrpc.Client, method: str, text: str) -> None:
    with pytest.raises(ServerError) as caught:
        client.call(method, Args(1, 2), int)
    assert str(caught.value) == text
    assert client.call("Desk.Hello") == "hello"


def test_exceptions_are_answers_and_log_records(
    client: netrpc.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerError) as caught:
        client.call("Desk.Fail", "no such thing")
    assert str(caught.value) == "no such thing"
    (record,) = caplog.records
    assert record.name == "pygo_plugin.server"
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "Desk.fail has failed: no such thing"
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    with pytest.raises(ServerError, match=r"^ValueError$"):
        client.call("Desk.Fail", "")  # no text would mean success
    with pytest.raises(ServerError, match=r"^3$"):
        client.call("Desk.Leave", 3)


def test_a_server_error_is_not_logged(
    client: netrpc.Client, caplog: pytest.LogCaptureFixture
) -> None:
    text = "not \N{LATIN SMALL LETTER E WITH ACUTE}tonishing"
    with pytest.raises(ServerError) as caught:
        client.call("Desk.FailSilently", text)
    assert str(caught.value) == text
    with pytest.raises(ServerError, match="Args: the stream has a string"):
        client.call("Desk.Add", "text")
    assert caplog.records == []


def test_errors_as_values(client: netrpc.Client, caplog: pytest.LogCaptureFixture) -> None:
    error = client.call("Desk.ErrorValue", "as a value", Any)
    assert error == netrpc.BasicError("as a value")
    assert str(error) == "as a value"
    assert isinstance(error, ServerError)
    with pytest.raises(ServerError, match=r"^raised$"):
        client.call("Desk.FailBasic", "raised")
    assert caplog.records == []


def test_a_result_that_cannot_be_encoded(
    client: netrpc.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerError, match="expected an int, found str"):
        client.call("Desk.WrongResult", 3)
    assert "Desk.wrong_result has failed" in caplog.text
    assert client.call("Desk.Hello") == "hello"


def test_a_reply_of_another_type_fails_that_call_only(client: netrpc.Client) -> None:
    with pytest.raises(GobError, match="the stream has an int, the class a str"):
        client.call("Desk.Add", Args(1, 2), str)
    assert client.call("Desk.Add", Args(1, 2), int) == 3


def test_an_argument_that_cannot_be_encoded(client: netrpc.Client) -> None:
    with pytest.raises(GobError, match="does not fit"):
        client.call("Desk.Echo", 1 << 70)
    with pytest.raises(GobError, match="registered types only, and object is none"):
        client.call("Desk.Echo", object())
    with pytest.raises(TypeError, match="gob cannot encode the class Desk"):
        client.call("Desk.Echo", Desk())
    with pytest.raises(TypeError, match="set"):
        client.call("Desk.Echo", 1, set[int])
    assert client.call("Desk.Hello") == "hello"


def test_wrong_arguments_of_call(client: netrpc.Client) -> None:
    call: Callable[..., Any] = client.call
    with pytest.raises(TypeError, match="a call needs the name of its method"):
        call()
    with pytest.raises(TypeError, match=r"the method must be a str like 'Service.Method', not int"):
        call(3)
    with pytest.raises(TypeError, match="a call has no argument 'nope'"):
        call("Desk.Hello", nope=1)
    with pytest.raises(TypeError, match="a call got two values for 'args'"):
        call("Desk.Hello", 1, args=2)
    with pytest.raises(TypeError, match="a call takes at most 5 arguments"):
        call("Desk.Hello", 1, 2, 3, 4, 5)
    with pytest.raises(TypeError, match="must be a number of seconds or None, not str: 'soon'"):
        call("Desk.Hello", timeout="soon")


# ---- Time ----------------------------------------------------------------------------------------


def test_a_timeout_gives_the_call_up(client: netrpc.Client, desk: Desk) -> None:
    with pytest.raises(CallTimeoutError, match=r"Desk.Block was not answered in time") as caught:
        client.call("Desk.Block", "late", str, timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, PluginError)
    desk.event("late").set()  # the late answer is dropped
    for i in range(100):
        assert client.call("Desk.Text", str(i), str, timeout=PATIENCE) == str(i)
    with pytest.raises(CallTimeoutError):
        client.call("Desk.Block", "at once", str, timeout=0)
    desk.event("at once").set()


def test_calls_overtake_each_other(client: netrpc.Client, desk: Desk) -> None:
    blocked = [client.go("Desk.Block", f"call {i}", str) for i in range(20)]
    assert client.call("Desk.Hello") == "hello"
    for i in reversed(range(20)):
        client.call("Desk.Release", f"call {i}", None)
        assert blocked[i].result(PATIENCE) == f"call {i}"
        assert i == 0 or not blocked[i - 1].done()


def test_many_threads(client: netrpc.Client) -> None:
    right: list[bool] = []

    def call_often(number: int) -> None:
        for i in range(200):
            right.append(  # noqa: PERF401  # a list that other threads extend, too
                client.call("Desk.Add", Args(number, i), int) == number + i
            )

    threads = [threading.Thread(target=call_often, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 1600


def test_a_call_from_a_method(client: netrpc.Client, server: netrpc.Server, desk: Desk) -> None:
    with netrpc.connect(server.address) as desk.client:
        assert client.call("Desk.CallBack", "there and back", str) == "there and back"
    desk.client = client  # over the same connection
    assert client.call("Desk.CallBack", "again", str) == "again"


def test_max_workers(desk: Desk, tmp_path: Path) -> None:
    with served(tmp_path, desk, max_workers=2) as client:
        calls = [client.go("Desk.Block", str(i), str) for i in range(3)]
        for i in range(2):
            assert desk.event(f"{i} has begun").wait(PATIENCE)
        assert not desk.event("2 has begun").is_set()
        desk.event("0").set()
        assert desk.event("2 has begun").wait(PATIENCE)
        desk.event("1").set()
        desk.event("2").set()
        assert [call.result(PATIENCE) for call in calls] == ["0", "1", "2"]


def test_context_variables_do_not_leak(client: netrpc.Client) -> None:
    assert client.call("Desk.SetVariable", "1") == "unset"
    assert client.call("Desk.SetVariable", "2") == "unset"


# ---- Futures -------------------------------------------------------------------------------------


def test_futures(client: netrpc.Client, desk: Desk) -> None:
    future = client.go("Desk.Add", Args(1, 2), int)
    assert future.result(PATIENCE) == 3
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()
    assert repr(future) == "<net/rpc call of Desk.Add, done>"
    failed = client.go("Desk.FailSilently", "broken")
    assert str(failed.exception(PATIENCE)) == "broken"
    with pytest.raises(ServerError, match="broken"):
        failed.result()
    running = client.go("Desk.Block", "running", str)
    assert running.running()
    assert repr(running) == "<net/rpc call of Desk.Block, running>"
    with pytest.raises(FutureTimeoutError):
        running.result(timeout=0.01)
    desk.event("running").set()
    assert running.result(PATIENCE) == "running"


def test_cancelling_a_future(client: netrpc.Client, desk: Desk) -> None:
    future = client.go("Desk.Block", "cancelled", str)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert future.cancel()
    assert future.cancel()
    assert called.wait(PATIENCE)
    assert future.cancelled()
    assert future.done()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()
    desk.event("cancelled").set()
    assert client.call("Desk.Hello") == "hello"


def test_callbacks_of_futures(client: netrpc.Client, desk: Desk) -> None:
    future = client.go("Desk.Block", "callback", str)
    results: list[str] = []
    done = threading.Event()
    future.add_done_callback(lambda f: results.append(f"first {f.result()}"))
    future.add_done_callback(lambda f: results.append(f"second {f.result()}"))
    future.add_done_callback(lambda _: done.set())
    desk.event("callback").set()
    assert done.wait(PATIENCE)  # without a thread that waits for the call itself
    assert results == ["first callback", "second callback"]
    future.add_done_callback(lambda f: results.append("late"))
    assert results[-1] == "late"


def test_a_future_goes_on_without_references(client: netrpc.Client, desk: Desk) -> None:
    client.go("Desk.Release", "dropped", None)
    assert desk.event("dropped").wait(PATIENCE)


def test_thousands_of_futures(client: netrpc.Client) -> None:
    futures = [client.go("Desk.Add", Args(i, 1), int) for i in range(5000)]
    assert [future.result(PATIENCE) for future in futures] == list(range(1, 5001))


# ---- The end -------------------------------------------------------------------------------------


def test_closing_a_client(client: netrpc.Client, desk: Desk) -> None:
    future = client.go("Desk.Block", "closing", str)
    assert desk.event("closing has begun").wait(PATIENCE)
    assert not client.closed
    client.close()
    client.close()
    assert client.closed
    assert repr(client).startswith("<netrpc.Client to ")
    assert repr(client).endswith(", closed>")
    with pytest.raises(ClosedError) as caught:
        future.result(PATIENCE)
    assert str(caught.value) == "connection is shut down"
    with pytest.raises(ClosedError, match=r"^connection is shut down$"):
        client.call("Desk.Hello")
    with pytest.raises(ClosedError, match=r"^connection is shut down$"):
        client.go("Desk.Hello")


def test_closing_a_client_ends_its_calls(server: netrpc.Server, desk: Desk) -> None:
    client = netrpc.connect(server.address)
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            client.call("Desk.Block", "waiting")
        except PluginError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert desk.event("waiting has begun").wait(PATIENCE)
    client.close()
    thread.join(PATIENCE)
    assert isinstance(outcome[0], ClosedError)


def test_closing_a_server(client: netrpc.Client, server: netrpc.Server, desk: Desk) -> None:
    future = client.go("Desk.Block", "served", str)
    assert desk.event("served has begun").wait(PATIENCE)
    server.close()
    server.close()
    with pytest.raises(ClosedError, match="connection is shut down: the other side has ended it"):
        future.result(PATIENCE)
    assert not server.wait(0.01)  # the method runs
    desk.event("served").set()
    assert server.wait(PATIENCE)
    assert not os.path.exists(server.address[len("unix:") :])
    with pytest.raises(SystemCallError):
        netrpc.connect(server.address)


def test_nothing_is_kept(tmp_path: Path) -> None:
    desk = Desk()
    server = netrpc.listen(f"unix:{tmp_path}/s", desk)
    client = netrpc.connect(server.address)
    assert client.call("Desk.Hello") == "hello"
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    server.close()
    assert server.wait(PATIENCE)
    dropped = threading.Event()
    owner = weakref.ref(desk, lambda _: dropped.set())
    del server, desk
    gc.collect()
    assert dropped.wait(PATIENCE), owner()  # by the thread that has served the last request


# ---- Addresses -----------------------------------------------------------------------------------


def test_tcp(desk: Desk) -> None:
    with netrpc.listen("127.0.0.1:0", {"Other": desk}) as server:
        assert server.address.startswith("127.0.0.1:")
        assert not server.address.endswith(":0")
        assert server.address in repr(server)
        with netrpc.connect(server.address, timeout=PATIENCE) as client:
            assert client.call("Other.Add", Args(20, 22), int) == 42


def test_several_services(tmp_path: Path) -> None:
    class Second:
        def add(self, value: int) -> int:
            return value + 1

    with served(tmp_path, {"First": Desk(), "Second": Second()}) as client:
        assert client.call("First.Add", Args(1, 1), int) == 2
        assert client.call("Second.Add", 1, int) == 2


@pytest.mark.parametrize("address", ["", "unix:", "host", "host:", "host:x", "host:99999", 3])
def test_addresses_that_mean_nothing(address: Any) -> None:
    with pytest.raises(ConfigError):
        netrpc.connect(address)
    with pytest.raises(ConfigError):
        netrpc.listen(address, Desk())


def test_a_port_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"'host:99999' must end with a port, .* 0 to 65535"):
        netrpc.connect("host:99999")


def test_addresses_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SystemCallError):
        netrpc.connect(f"unix:{tmp_path}/nobody")
    with pytest.raises(SystemCallError, match="cannot listen on"):
        netrpc.listen(f"unix:{tmp_path}/no/such/directory", Desk())
    with served(tmp_path, Desk()), pytest.raises(SystemCallError, match="in use"):
        netrpc.listen(f"unix:{tmp_path}/own", Desk())
    with pytest.raises(ConfigError, match="must be the path of a file"):
        netrpc.listen("unix:@abstract", Desk())
    with pytest.raises(ConfigError, match="max_workers must be at least 1"):
        netrpc.listen(f"unix:{tmp_path}/s", Desk(), max_workers=0)


def test_limits(desk: Desk, tmp_path: Path) -> None:
    small = gob.Limits(message=10_000)
    with netrpc.listen(f"unix:{tmp_path}/s", desk, limits=small) as server:
        with netrpc.connect(server.address) as client:
            assert client.call("Desk.Size", bytes(9_000), int) == 9_000
            with pytest.raises(ClosedError, match="connection is shut down"):
                client.call("Desk.Size", bytes(20_000), int)
        client = netrpc.connect(server.address, limits=gob.Limits(message=100))
        with client, pytest.raises(ClosedError, match=r"cannot be read: .* 100 are allowed"):
            client.call("Desk.Text", "x" * 1000, str)
    with pytest.raises(ConfigError, match=r"limits must be a gob.Limits"):
        netrpc.connect("unix:/nowhere", limits=3)  # type: ignore[arg-type]


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("an authority of tests")


def test_tls(desk: Desk, tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("server", "localhost")
    config = TLSConfig(certificate=pair.chain, key=pair.key)
    with netrpc.listen(f"unix:{tmp_path}/s", desk, tls_config=config) as server:
        with netrpc.connect(server.address, tls_config=TLSConfig(authority.root)) as client:
            assert client.call("Desk.Add", Args(1, 2), int) == 3
            assert client.call("Desk.Size", bytes(1_000_000), int) == 1_000_000
        with pytest.raises(TLSError) as caught:
            netrpc.connect(server.address, tls_config=TLSConfig(Authority("other").root))
        assert caught.value.reason == "unknown authority"
        with netrpc.connect(server.address) as plain, pytest.raises(ClosedError):
            plain.call("Desk.Hello")


def test_mutual_tls(desk: Desk, tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("server", "localhost")
    theirs = authority.issue("client", "localhost")
    config = TLSConfig(authority.root, ours.chain, ours.key)
    with netrpc.listen(f"unix:{tmp_path}/s", desk, tls_config=config) as server:
        with netrpc.connect(
            server.address, tls_config=TLSConfig(authority.root, theirs.chain, theirs.key)
        ) as client:
            assert client.call("Desk.Hello") == "hello"
        without = netrpc.connect(server.address, tls_config=TLSConfig(authority.root))
        with without, pytest.raises(TLSError):
            without.call("Desk.Hello")


def test_configurations_of_tls(desk: Desk, authority: Authority) -> None:
    with pytest.raises(ConfigError, match="a server needs a certificate and its key"):
        netrpc.listen("127.0.0.1:0", desk, tls_config=TLSConfig(authority.root))
    with pytest.raises(ConfigError, match="tls_config must be a TLSConfig"):
        netrpc.connect("127.0.0.1:1", tls_config=3)  # type: ignore[arg-type]


def test_a_server_without_tls(tmp_path: Path, desk: Desk, authority: Authority) -> None:
    with netrpc.listen(f"unix:{tmp_path}/s", desk) as server, pytest.raises(TLSError):
        netrpc.connect(server.address, tls_config=TLSConfig(authority.root), timeout=PATIENCE)


# ---- What is loaded ------------------------------------------------------------------------------


def test_no_grpc_is_loaded(server: netrpc.Server) -> None:
    script = """
import sys
from pygo_plugin import netrpc
before = set(sys.modules)
client = netrpc.connect(sys.argv[1])
assert client.call("Desk.Hello", reply=str) == "hello"
heavy = {"asyncio", "concurrent", "dataclasses", "datetime", "inspect", "logging", "typing"}
assert heavy.isdisjoint(set(sys.modules) - before), set(sys.modules) - before
with open("/proc/self/maps") as maps:
    loaded = maps.read()
assert "libgrpc" not in loaded
assert "libssl" not in loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
