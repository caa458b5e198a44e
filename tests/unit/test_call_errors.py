"""What errors of calls say: how the plugin has ended, and which method had the wrong message."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import failing_plugin
import grpc
import probe_pb2 as pb
import pytest
from failing_plugin import HANDSHAKE, LAST_WORDS, Probe

from pygo_plugin import (
    ClosedError,
    ConfigTypeError,
    GobError,
    RpcError,
    ServerError,
    StatusCode,
    aio,
    netrpc,
    rpc,
)

TIMEOUT = 60.0
PLUGIN = [sys.executable, failing_plugin.__file__]
OPTIONS: dict[str, Any] = {
    "handshake_config": HANDSHAKE,
    "plugins": {"probe": Probe.plugin(failing_plugin.Servicer)},
}

pytestmark = pytest.mark.usefixtures("no_leftovers")


def failure(call: Callable[[], Any]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        call()
    return caught.value


# ---- The end of the plugin -----------------------------------------------------------------------

EXIT = pb.ExitRequest(status=3)
ONE = pb.SumRequest()

WAYS: dict[str, Callable[[Any], Any]] = {
    "blocking": lambda probe: probe.Exit(EXIT, timeout=TIMEOUT),
    "with_call": lambda probe: probe.Exit.with_call(EXIT),
    "future": lambda probe: probe.Exit.future(EXIT, timeout=TIMEOUT).result(),
    "replies": lambda probe: list(probe.Count(pb.CountRequest())),
    "requests": lambda probe: probe.Sum(iter([ONE])),
}


def check_exit(error: RpcError, name: str) -> None:
    assert error.code() is StatusCode.UNAVAILABLE
    assert error.details().startswith(f"{name}: exited with status 3 (")
    assert error.exit_status == 3
    assert error.stderr.endswith(LAST_WORDS)
    assert str(error).endswith(f"stderr ends with:\n{error.stderr}")
    assert isinstance(error, grpc.RpcError)
    thawed = pickle.loads(pickle.dumps(error))
    assert (thawed.exit_status, thawed.stderr) == (3, error.stderr)
    assert str(thawed) == str(error)


@pytest.mark.parametrize("way", WAYS)
def test_calls_that_the_plugins_end_cuts_off(make_client: Any, way: str) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    check_exit(failure(lambda: WAYS[way](probe)), client.name)
    check_exit(failure(lambda: WAYS[way](probe)), client.name)  # made after the end


AIO_WAYS: dict[str, Callable[[Any], Any]] = {
    "one reply": lambda probe: probe.Exit(EXIT, timeout=TIMEOUT),
    "read": lambda probe: read_all(probe.Count(pb.CountRequest())),
    "iteration": lambda probe: iterate(probe.Count(pb.CountRequest())),
    "requests": lambda probe: probe.Sum(some_requests()),
}


async def read_all(call: Any) -> None:
    while await call.read() is not aio.EOF:
        pass


async def iterate(call: Any) -> None:
    async for _ in call:
        pass


async def some_requests() -> AsyncIterator[Any]:
    yield ONE


@pytest.mark.parametrize("way", AIO_WAYS)
def test_awaited_calls_that_the_plugins_end_cuts_off(way: str) -> None:
    async def main() -> None:
        async with aio.Client(PLUGIN, **OPTIONS) as client:
            _, probe = await client.dispense("probe")
            for _ in range(2):
                with pytest.raises(RpcError) as caught:
                    await AIO_WAYS[way](probe)
                check_exit(caught.value, client.name)

    asyncio.run(main())


def test_a_plugin_that_was_killed(make_client: Any) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    error = failure(lambda: probe.Exit(pb.ExitRequest(signal=signal.SIGKILL)))
    assert f"{client.name}: was killed by signal 9 (SIGKILL)" in error.details()
    assert error.exit_status == -signal.SIGKILL
    assert error.stderr == LAST_WORDS


def test_a_plugin_that_disconnects_before_it_exits(make_client: Any) -> None:
    """The interpreter stops the server some time before it exits."""
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    error = failure(lambda: probe.Hang(pb.HangRequest()))
    assert f"{client.name}: exited with status 1" in error.details()
    assert error.exit_status == 1
    assert f"LookupError: {LAST_WORDS}" in error.stderr


def test_the_plugins_own_status_is_left_alone(make_client: Any) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    error = failure(lambda: probe.Echo(pb.EchoRequest(payload=b"unavailable")))
    assert error.code() is StatusCode.UNAVAILABLE
    assert error.details() == "the database is down"
    assert (error.exit_status, error.stderr) == (None, "")
    assert "stderr" not in str(error)
    assert not client.exited()


# ---- Messages of the wrong type ------------------------------------------------------------------

WRONG_REPLIES = {
    b"none": "/probe.Probe/Echo returns a probe.EchoReply, not None",
    b"other": "/probe.Probe/Echo returns a probe.EchoReply, not a probe.SumReply",
    b"class": "/probe.Probe/Echo returns a probe.EchoReply, not the class probe.EchoReply",
}


def test_replies_of_the_wrong_type(make_client: Any) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    for payload, text in WRONG_REPLIES.items():
        error = failure(lambda payload=payload: probe.Echo(pb.EchoRequest(payload=payload)))
        assert error.code() is StatusCode.INTERNAL
        assert text in error.details()
    error = failure(lambda: list(probe.Count(pb.CountRequest(n=1))))
    assert error.code() is StatusCode.INTERNAL
    assert "/probe.Probe/Count returns a probe.CountReply, not None" in error.details()


WRONG_REQUESTS: list[tuple[Any, str]] = [
    (None, "not None"),
    (pb.SumRequest(value=1), "not a probe.SumRequest"),
    ("text", "not a str"),
    (pb.EchoRequest, "not the class probe.EchoRequest"),
]


def test_requests_of_the_wrong_type(make_client: Any) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    _, probe = client.dispense("probe")
    for request, found in WRONG_REQUESTS:
        for call in (probe.Echo, probe.Echo.with_call, probe.Echo.future):
            error = failure(lambda call=call, request=request: call(request))
            assert error.code() is StatusCode.INTERNAL
            text = f"/probe.Probe/Echo takes a probe.EchoRequest, {found}"
            assert text in error.details()
            assert isinstance(error.__cause__, TypeError)
            assert str(error.__cause__) == text
    assert probe.Echo(pb.EchoRequest(payload=b"x")).payload == b"x"


def test_awaited_calls_with_the_wrong_type() -> None:
    async def main() -> None:
        async with aio.Client(PLUGIN, **OPTIONS) as client:
            _, probe = await client.dispense("probe")
            with pytest.raises(RpcError, match=r"/probe.Probe/Echo takes a probe.EchoRequest"):
                await probe.Echo(pb.SumRequest())
            with pytest.raises(RpcError, match=r"/probe.Probe/Echo returns a probe.EchoReply"):
                await probe.Echo(pb.EchoRequest(payload=b"none"))
            with pytest.raises(TypeError, match=r"/probe.Probe/Chat takes a probe.ChatMessage"):
                await probe.Chat().write(pb.SumRequest())

    asyncio.run(main())


# ---- Timeouts ------------------------------------------------------------------------------------

WRONG_TIMEOUT = "a timeout must be a number of seconds or None, not str: 'x'"


def test_timeouts_that_are_no_numbers(make_client: Any) -> None:
    client = make_client(PLUGIN, **OPTIONS)
    channel, probe = client.dispense("probe")
    echo = probe.Echo.future(pb.EchoRequest(payload=b"x"))
    for call in (
        lambda: probe.Echo(pb.EchoRequest(), timeout="x"),
        lambda: probe.Echo.with_call(pb.EchoRequest(), timeout="x"),
        lambda: probe.Echo.future(pb.EchoRequest(), timeout="x"),
        lambda: probe.Count(pb.CountRequest(), timeout="x"),
        lambda: probe.Sum(iter([ONE]), timeout="x"),
        lambda: probe.Chat(iter([]), timeout="x"),
        lambda: echo.result("x"),
        lambda: echo.exception("x"),
        lambda: client.ping("x"),
        lambda: client.broker.dial(1, "x"),
        lambda: channel.wait_state(0, "x"),
    ):
        with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
            call()
    with pytest.raises(ConfigTypeError, match=r"not float: nan"):
        probe.Echo(pb.EchoRequest(), timeout=float("nan"))
    assert echo.result(timeout=1e300).payload == b"x"
    server = rpc.server(max_workers=1)
    for wait in (server.stop, server.wait_for_termination):
        with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
            wait("x")  # type: ignore[arg-type]
    server.stop(None).wait()


def test_timeouts_that_are_no_numbers_with_asyncio() -> None:
    async def main() -> None:
        async with aio.Client(PLUGIN, **OPTIONS) as client:
            _, probe = await client.dispense("probe")
            for start in (
                lambda: probe.Echo(pb.EchoRequest(), timeout="x"),
                lambda: probe.Count(pb.CountRequest(), timeout="x"),
                lambda: probe.Sum(iter([ONE]), timeout="x"),
                lambda: probe.Chat(timeout="x"),
            ):
                with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
                    start()
            with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
                await client.ping("x")  # type: ignore[arg-type]

    asyncio.run(main())


# ---- net/rpc -------------------------------------------------------------------------------------

NETRPC = [*PLUGIN, "--netrpc"]
STORE: dict[str, Any] = {
    "handshake_config": HANDSHAKE,
    "plugins": {"store": netrpc.plugin(failing_plugin.Store)},
    "allowed_protocols": ["netrpc"],
}


def check_closed(error: ClosedError, name: str, status: int) -> None:
    assert str(error).startswith(f"{name}: exited with status {status} (")
    assert LAST_WORDS in str(error)
    assert (error.exit_status, LAST_WORDS in error.stderr) == (status, True)


@pytest.mark.parametrize("way", ["blocking", "future"])
def test_netrpc_calls_that_the_plugins_end_cuts_off(make_client: Any, way: str) -> None:
    client = make_client(NETRPC, **STORE)
    call = client.dispense("store").rpc_client
    with pytest.raises(ClosedError) as caught:
        call.call("Plugin.Exit", 3) if way == "blocking" else call.go("Plugin.Exit", 3).result()
    check_closed(caught.value, client.name, 3)
    with pytest.raises(ClosedError) as caught:
        call.call("Plugin.Get", "a")
    check_closed(caught.value, client.name, 3)
    with pytest.raises(ClosedError, match="exited with status 3"):
        client.dispense("store")


def test_a_netrpc_plugin_that_disconnects_before_it_exits(make_client: Any) -> None:
    client = make_client(NETRPC, **STORE)
    with pytest.raises(ClosedError) as caught:
        client.dispense("store").hang()
    check_closed(caught.value, client.name, 1)


def test_awaited_netrpc_calls_that_the_plugins_end_cuts_off() -> None:
    async def main(call: Callable[[Any], Any], status: int) -> None:
        async with aio.Client(NETRPC, **STORE) as client:
            store = await client.dispense("store")
            for _ in range(2):
                with pytest.raises(ClosedError) as caught:
                    await call(store)
                check_closed(caught.value, client.name, status)

    asyncio.run(main(lambda store: store.exit(3), 3))
    asyncio.run(main(lambda store: store.hang(), 1))


def test_netrpc_values_of_the_wrong_type(make_client: Any) -> None:
    store = make_client(NETRPC, **STORE).dispense("store")
    call = store.rpc_client
    for get in (
        lambda: call.call("Plugin.Get", "a", int),
        lambda: call.go("Plugin.Get", "a", int).result(),
        lambda: store.get(5),
        lambda: call.go("Plugin.Get", object()),
    ):
        with pytest.raises(GobError, match=r"^Plugin\.Get: "):
            get()
    with pytest.raises(ServerError, match=r"Store\.get"):
        store.get("wrong")
    assert store.put("a") is None
    assert call.call("Plugin.Put", "a") is None
    with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
        store.get("a", timeout="x")
    with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
        call.go("Plugin.Get", "a").result("x")


def test_awaited_netrpc_calls_of_the_wrong_type() -> None:
    async def main() -> None:
        async with aio.Client(NETRPC, **STORE) as client:
            store = await client.dispense("store")
            with pytest.raises(GobError, match=r"^Plugin\.Get: "):
                await store.rpc_client.call("Plugin.Get", "a", int)
            with pytest.raises(GobError, match=r"^Plugin\.Get: "):
                await store.get(5)
            with pytest.raises(ConfigTypeError, match=WRONG_TIMEOUT):
                await store.get("a", timeout="x")
            assert await store.put("a") is None

    asyncio.run(main())
