"""net/rpc plugins that misbehave: the host says what was wrong, goes on, and nothing is left."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from netrpc_peer import CallBackArgs

from pygo_plugin import (
    BrokerError,
    ClosedError,
    GobError,
    PluginError,
    ServerError,
    netrpc,
)

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

SHORT = 0.5  # seconds, where the plugin will never answer
DEADLINE = 60.0  # seconds, where it will


class Test:
    """What the plugin serves where its mode does not spoil it."""

    def echo(self, payload: bytes) -> bytes:
        return payload

    def call_back(self, args: CallBackArgs) -> bytes:
        raise NotImplementedError


@pytest.fixture
def bad(peers: Any, make_client: Any) -> Callable[..., Any]:
    """Makes a client of a plugin that misbehaves."""

    def make(mode: str, at: str = "plugin", **options: Any) -> Any:
        return make_client(
            peers.bad_netrpc(mode, at),
            plugins={"test": netrpc.plugin(Test)},
            allowed_protocols=["netrpc"],
            **options,
        )

    return make


each_security = pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "mtls"])


@each_security
def test_good(auto_mtls: bool, bad: Any) -> None:
    client = bad("good", auto_mtls=auto_mtls)
    test = client.dispense("test")
    client.ping()
    assert test.echo(b"x") == b"x"
    with client.broker.serve(Test()) as service_id:
        assert test.call_back(CallBackArgs(service_id, b"y")) == b"y"


# ---- The connection -----------------------------------------------------------------------------


@each_security
@pytest.mark.parametrize("mode", ["garbage", "garbage-frames", "close", "close-session"])
def test_no_connection(mode: str, auto_mtls: bool, bad: Any) -> None:
    client = bad(mode, auto_mtls=auto_mtls)
    with pytest.raises(PluginError):
        client.dispense("test").echo(b"x")


@pytest.mark.parametrize("mode", ["silent", "no-streams", "close-streams"])
def test_nobody_answers(mode: str, bad: Any) -> None:
    client = bad(mode)
    assert not answers(client, SHORT)


# ---- Brokered streams ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["no-ids", "half-ids", "unknown-ids"])
def test_streams_that_nobody_has_asked_for(mode: str, bad: Any) -> None:
    client = bad(mode)
    test = client.dispense("test")
    assert test.echo(b"x") == b"x"
    if mode == "unknown-ids":  # of which so many wait for an accept that others are refused
        return
    for number in range(20):
        with client.broker.serve(Test()) as service_id:
            payload = b"%d" % number
            assert test.call_back(CallBackArgs(service_id, payload)) == payload


@pytest.mark.parametrize("mode", ["wrong-ack", "close-ack"])
def test_ack(mode: str, bad: Any) -> None:
    client = bad(mode)
    with pytest.raises((BrokerError, ClosedError)):
        client.dispense("test")
    client.ping()


def test_no_ack(bad: Any) -> None:
    client = bad("no-ack")
    with pytest.raises(BrokerError):
        client.dispense("test")  # after go-plugin's 5 s
    client.ping()


def test_an_id_that_is_dialled_twice(bad: Any) -> None:
    client = bad("dial-twice")
    test = client.dispense("test")
    with client.broker.serve(Test()) as service_id:
        assert test.call_back(CallBackArgs(service_id, b"x"), timeout=DEADLINE) == b"x"


# ---- Answers ------------------------------------------------------------------------------------


def answers(client: Any, timeout: float) -> bool:
    """Whether Ping, which is spoilt on the control stream, is answered."""
    return bool(client.ping(timeout) == "")


def call(client: Any, timeout: float) -> Any:
    """The call that is spoilt elsewhere."""
    return client.dispense("test").echo(b"x", timeout=timeout)


each_place = pytest.mark.parametrize("at", ["control", "plugin"])


@each_place
@pytest.mark.parametrize("mode", ["never", "wrong-seq", "no-body", "huge-gob"])
def test_no_answer(mode: str, at: str, bad: Any) -> None:
    client = bad(mode, at)
    if at == "control":
        assert not answers(client, SHORT)
        return
    with pytest.raises(PluginError):
        call(client, SHORT)


@each_place
@pytest.mark.parametrize("mode", ["twice", "unasked"])
def test_answers_that_nobody_waits_for(mode: str, at: str, bad: Any) -> None:
    client = bad(mode, at)
    for _ in range(3):
        assert answers(client, DEADLINE)
        assert call(client, DEADLINE) == b"x"


@each_place
@pytest.mark.parametrize(
    "mode", ["wrong-type", "garbage-gob", "truncated", "close-call", "long-error"]
)
def test_wrong_answers(mode: str, at: str, bad: Any) -> None:
    client = bad(mode, at)
    if at == "control":
        # What Ping answers with is not looked at.
        assert answers(client, DEADLINE) is (mode == "wrong-type")
        return
    with pytest.raises((ClosedError, GobError, ServerError)):
        call(client, DEADLINE)


@each_place
@pytest.mark.parametrize(("mode", "status"), [("die", 7), ("kill", -9)])
def test_death(mode: str, status: int, at: str, bad: Any, eventually: Any) -> None:
    client = bad(mode, at)
    if at == "control":
        assert not answers(client, DEADLINE)
    else:
        with pytest.raises(ClosedError):
            call(client, DEADLINE)
    eventually(client.exited, "the end")
    assert client.exit_status == status


def test_flood_of_output(bad: Any) -> None:
    """What is not read makes the plugin wait, and calls go on."""

    class Full(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    client = bad("flood", sync_stdout=Full())
    test = client.dispense("test")
    for _ in range(50):
        assert test.echo(b"x") == b"x"


def test_stdout_that_ends(bad: Any) -> None:
    assert bad("close-stdout").dispense("test").echo(b"x") == b"x"


# ---- The end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["quit-never", "quit-stay", "quit-close"])
def test_plugins_that_do_not_quit(mode: str, bad: Any) -> None:
    client = bad(mode)
    assert client.dispense("test").echo(b"x") == b"x"
    client.kill()
    assert client.exit_status == -9
