"""Our host with net/rpc plugins, in Go and in Python: every kind of value, call and loan."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import netrpc_peer
import pytest
from netrpc_loans import (
    borrow_reader,
    borrow_writer,
    call_back,
    call_served,
    descend,
    lend_reader,
    lend_writer,
)
from netrpc_peer import DivideArgs, LogArgs, Nothing, PrintArgs

from pygo_plugin import BrokerError, ClosedError, gob, netrpc

pytestmark = pytest.mark.usefixtures("no_leftovers")

DEADLINE = 60.0
KINDS = [pytest.param("go", marks=pytest.mark.go), "python"]
CELLS: dict[str, Any] = {
    "unix": {},
    "tcp": {"tcp": True},
    "mtls": {"auto_mtls": True},
    "tcp-mtls": {"tcp": True, "auto_mtls": True},
}
each_cell = pytest.mark.parametrize("cell", CELLS)

Start = Callable[..., Any]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the plugin is written in."""
    found: str = request.param
    return found


@pytest.fixture
def start(kind: str, peers: Any, make_client: Any) -> Start:
    """Starts a plugin that serves net/rpc."""

    def start(*arguments: str, tcp: bool = False, **options: Any) -> Any:
        if tcp:
            arguments = ("--network", "tcp", *arguments)
        options.setdefault("plugins", netrpc_peer.plugins())
        options.setdefault("allowed_protocols", ["netrpc"])
        client = make_client(peers.netrpc_plugin(kind, *arguments), **options)
        client.start()
        return client

    return start


@each_cell
def test_every_kind_of_call(cell: str, start: Start) -> None:
    client = start(**CELLS[cell])
    client.ping()
    test = client.dispense("test")
    payload = netrpc_peer.pattern(1_000_000)
    assert test.echo(payload) == payload
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(test.echo, [b"%d" % i for i in range(200)])) == [
            b"%d" % i for i in range(200)
        ]
    call_back(client, test, b"called back")
    call_served(client, test)
    descend(client, test, 7)
    for size in (0, 1_000_000):
        lend_reader(client, test, size)
        lend_writer(client, test, size)
        borrow_reader(client, test, size)
        borrow_writer(client, test, size)
    client.kill()
    assert client.exit_status == 0


# ---- What is lent -------------------------------------------------------------------------------


def test_loans_at_the_same_time(start: Start) -> None:
    client = start()
    test = client.dispense("test")
    loans = [
        lambda: call_back(client, test, b"x"),
        lambda: call_served(client, test),
        lambda: descend(client, test, 3),
        lambda: lend_reader(client, test, 300_000),
        lambda: lend_writer(client, test, 300_000),
        lambda: borrow_reader(client, test, 300_000),
        lambda: borrow_writer(client, test, 300_000),
    ]
    with ThreadPoolExecutor(len(loans)) as threads:
        for done in [threads.submit(loan) for loan in loans * 3]:
            done.result(DEADLINE)


# ---- Values -------------------------------------------------------------------------------------


@pytest.mark.go
def test_every_kind_of_value(start: Start, go_gob: Any) -> None:
    """Go's samples go to the plugin and back, and Go reads what they have become."""
    client = start()
    types = client.dispense("types")
    for sample in go_gob.samples():
        annotation = netrpc_peer.KINDS[sample.kind]
        encoded = io.BytesIO()
        encoder = gob.Encoder(encoded)
        values = list(gob.Decoder(io.BytesIO(sample.data), annotation))
        assert len(values) == len(sample.values), sample.kind
        for value in values:
            answer = getattr(types, f"echo_{sample.kind.lower()}")(value)
            assert repr(answer) == repr(value), sample.kind  # nan is not equal to itself
            if answer is not None:  # which gob has within a call only
                encoder.encode(answer, annotation)
        expected = [value for value in sample.values if value is not None]
        # A list within an interface value is Go's []interface {}, whatever it was before.
        if sample.kind != "Any":
            assert go_gob.decode(sample.type, encoded.getvalue()) == expected, sample.kind


# ---- Errors -------------------------------------------------------------------------------------


def test_errors(start: Start) -> None:
    client = start()
    test = client.dispense("test")
    for method in (test.fail, test.fail_basic):
        with pytest.raises(netrpc.ServerError) as caught:
            method("by design")
        assert str(caught.value) == "by design"
    assert test.divide(DivideArgs(6, 3)) == netrpc_peer.DivideReply(2)
    error = test.divide(DivideArgs(6, 0)).error
    assert error.message == "division by zero"
    assert test.fail_inside("by design").err.message == "by design"
    assert test.fail_inside("").err is None
    rpc = test.rpc_client
    for name, text in {
        "Plugin.Nowhere": "rpc: can't find method Plugin.Nowhere",
        "Nobody.X": "rpc: can't find service Nobody.X",
        "Plugin": "rpc: service/method request ill-formed: Plugin",
    }.items():
        with pytest.raises(netrpc.ServerError) as caught:
            rpc.call(name, {"an argument": "that is skipped"})
        assert str(caught.value) == text
    with pytest.raises(netrpc.ServerError) as caught:
        rpc.call("Plugin.Echo", 1, reply=bytes)
    assert "gob" in str(caught.value) or "stream" in str(caught.value)
    with pytest.raises(gob.GobError):
        rpc.call("Plugin.Echo", b"x", reply=int)
    assert test.echo(b"as before") == b"as before"


def test_dispensing_what_there_is_not(start: Start) -> None:
    client = start()
    with pytest.raises(Exception, match="this plugin is broken by design"):
        client.dispense("broken")
    with pytest.raises(Exception, match="nothing"):
        client.dispense("nothing")
    assert client.dispense("test").echo(b"x") == b"x"


def test_calls_at_the_same_time(start: Start, eventually: Any) -> None:
    test = start().dispense("test")
    rpc = test.rpc_client
    calls = {key: rpc.go("Plugin.Block", key, reply=str) for key in ("a", "b")}
    eventually(lambda: test.blocked(Nothing()) == 2, "both calls")
    test.release("b")
    assert calls["b"].result(DEADLINE) == "b"
    with pytest.raises(TimeoutError):
        test.block("a", timeout=0.05)
    assert not calls["a"].done()
    test.release("a")
    assert calls["a"].result(DEADLINE) == "a"


@pytest.mark.parametrize("end", ["kill -9", "exit"])
def test_death_in_the_middle_of_a_call(end: str, start: Start, eventually: Any) -> None:
    client = start()
    test = client.dispense("test")
    call = test.rpc_client.go("Plugin.Block", "a", reply=str)
    eventually(lambda: test.blocked(Nothing()) == 1, "the call")
    if end == "exit":
        with pytest.raises(ClosedError):
            test.exit(7)
    else:
        os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(ClosedError, match="7" if end == "exit" else "9"):
        call.result(DEADLINE)
    with pytest.raises(ClosedError):
        test.echo(b"x")
    with pytest.raises((ClosedError, BrokerError)):
        client.broker.client(1)


# ---- Output and logs ----------------------------------------------------------------------------


def test_output_and_logs(start: Start, records: Any) -> None:
    stdout, stderr = io.BytesIO(), io.BytesIO()
    client = start(sync_stdout=stdout, sync_stderr=stderr)
    test = client.dispense("test")
    test.print(PrintArgs(b"out \xff\n", b"err\n", 1000))
    test.log(LogArgs("warn", "a warning", {"key": "value"}))
    record = records.wait_for("a warning")
    assert record.levelname == "WARNING"
    assert record.hclog["key"] == "value"
    client.kill()
    assert stdout.getvalue() == b"out \xff\n" * 1000
    assert stderr.getvalue() == b"err\n" * 1000


def test_large_output_just_before_the_end(start: Start) -> None:
    stdout = io.BytesIO()
    client = start(sync_stdout=stdout)
    client.dispense("test").print(PrintArgs(b"x" * 65536, b"", 64))
    client.kill()
    assert len(stdout.getvalue()) == 64 * 65536


# ---- Life ---------------------------------------------------------------------------------------


def test_reattach(start: Start, make_client: Any, eventually: Any) -> None:
    first = start()
    assert first.dispense("test").echo(b"x") == b"x"
    config = first.reattach_config()
    assert config.protocol == "netrpc"
    second = make_client(
        reattach_config=config, plugins=netrpc_peer.plugins(), allowed_protocols=["netrpc"]
    )
    test = second.dispense("test")
    call_back(second, test, b"x")
    call_back(first, first.dispense("test"), b"x")
    second.kill()
    eventually(first.exited, "the end")


@pytest.mark.parametrize(
    ("versions", "chosen"), [({1, 2}, (2, "grpc")), ({1}, (1, "netrpc")), ({2}, (2, "grpc"))]
)
def test_negotiation_chooses_the_protocol(
    versions: set[int], chosen: tuple[int, str], start: Start, plugins: Any
) -> None:
    sets = {1: netrpc_peer.plugins(), 2: plugins}
    client = start(
        "--versions",
        "1,2",
        plugins=None,
        versioned_plugins={version: sets[version] for version in versions},
        allowed_protocols=["netrpc", "grpc"],
    )
    assert (client.negotiated_version, client.protocol) == chosen
    client.ping()
    if chosen[1] == "netrpc":
        assert client.dispense("test").echo(b"x") == b"x"
        with pytest.raises(Exception, match="net/rpc"):
            client.channel  # noqa: B018
    else:
        client.dispense("probe")
