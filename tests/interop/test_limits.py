"""Limits on metadata, messages and memory, and gRPC's options, on every kind of connection."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import broker_plugin
import grpc
import probe_pb2
import probe_pb2_grpc
import pytest
from broker_plugin import Test, add
from brokered import HOW, OPTIONS, TIMEOUT, serve_all
from processes import most_memory

from pygo_plugin import aio

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

LONG = "0123456789abcdef" * (1 << 12)  # 64 KiB
LONGER = 16 * LONG  # 1 MiB
Code = grpc.StatusCode

each_way = pytest.mark.parametrize("how", HOW)
two_ways = pytest.mark.parametrize("how", ["plain", "multiplexed mtls"])


def two_ways_of(name: str, *kinds: str) -> Any:
    """Kinds of plugins, each in two ways to connect; grpcio's own server knows the plain one."""
    pairs = [(kind, "plain") for kind in kinds]
    pairs += [(kind, "multiplexed mtls") for kind in kinds if kind != "grpcio"]
    return pytest.mark.parametrize((name, "how"), pairs)


def failing(details: str) -> probe_pb2.FailRequest:
    return probe_pb2.FailRequest(code=Code.DATA_LOSS.value[0], details=details)


def failure(call: Any, *args: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, timeout=TIMEOUT, **options)
    return caught.value


def config(**options: Any) -> list[str]:
    """Arguments of a Python peer."""
    return ["--config", json.dumps(options)]


# ---- Metadata and details ------------------------------------------------------------------------


@two_ways_of("plugin", "python", "aio", "go", "grpcio")
def test_metadata_and_details_of_64_kib(
    plugin: str, how: str, peers: Any, make_client: Any
) -> None:
    command = peers.plugin("go") if plugin == "go" else peers.plugin("python")
    if plugin == "aio":
        command += ["--server", "aio"]
    if plugin == "grpcio":
        command += ["--server", "grpcio", *config(max_metadata_size=1 << 18)]
    _, probe = make_client(command, **HOW[how]).dispense("probe")
    wanted = (("want-initial-first", LONG), ("want-trailing-last", LONG))
    _, call = probe.Echo.with_call(probe_pb2.EchoRequest(), timeout=TIMEOUT, metadata=wanted)
    assert dict(call.initial_metadata())["first"] == LONG
    assert dict(call.trailing_metadata())["last"] == LONG
    error = failure(probe.Fail, failing(LONG), metadata=(("want-trailing-last", LONG),))
    assert (error.code(), error.details()) == (Code.DATA_LOSS, LONG)
    assert dict(error.trailing_metadata())["last"] == LONG


@two_ways
def test_metadata_and_details_of_64_kib_for_a_go_host(how: str, peers: Any, go_host: Any) -> None:
    options = {name.replace("broker_", ""): value for name, value in HOW[how].items()}
    go_host.do("start", cmd=peers.plugin("python"), **options)
    reply = go_host.ask("fail", code=Code.DATA_LOSS.value[0], details=LONGER)
    assert (reply["code"], reply["details"]) == ("DATA_LOSS", LONGER)
    echoed = go_host.do("echo", value="x", metadata={"want-trailing-last": LONG})
    assert echoed["trailing"]["last"] == [LONG]


@two_ways
@pytest.mark.parametrize("server", ["core", "aio"])
def test_details_that_are_too_long_are_cut_and_the_call_is_not(
    server: str, how: str, peers: Any, make_client: Any
) -> None:
    client = make_client(peers.plugin("python", "--server", server), **HOW[how])
    _, probe = client.dispense("probe")
    error = failure(probe.Fail, failing(LONGER))
    assert error.code() is Code.DATA_LOSS
    start, end = error.details()[: len(LONG)], error.details()[-100:]
    assert start == LONG
    assert end.endswith(f"... [cut: {len(LONGER)} bytes in all, more than the client accepts]")
    # Messages come before the status, and what is not ASCII is longer on its way.
    request = probe_pb2.CountRequest(n=3, fail_code=Code.ABORTED.value[0], fail_details="é" * 99999)
    replies = probe.Count(request, timeout=TIMEOUT)
    assert [next(replies).number for _ in range(3)] == [0, 1, 2]
    error = failure(lambda timeout: next(replies))
    assert error.code() is Code.ABORTED
    assert error.details().startswith("é" * 40000 + "é")
    assert "é... [cut: 199998 bytes in all" in error.details()


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ({"max_metadata_size": 2 << 20}, True),
        ({"channel_options": [("grpc.max_metadata_size", 2 << 20)]}, True),
        (
            {"max_metadata_size": 2 << 20, "channel_options": [("grpc.max_metadata_size", 999)]},
            False,
        ),
        ({"max_metadata_size": 4096}, False),
    ],
)
@pytest.mark.parametrize("plugin", ["python", "go"])
def test_a_host_says_how_much_metadata_it_accepts(
    options: Any, whole: bool, plugin: str, peers: Any, make_client: Any
) -> None:
    _, probe = make_client(peers.plugin(plugin), **options).dispense("probe")
    error = failure(probe.Fail, failing(LONGER))
    if whole:
        assert (error.code(), error.details()) == (Code.DATA_LOSS, LONGER)
    elif plugin == "python":
        assert error.code() is Code.DATA_LOSS
        assert len(error.details()) < 4096
        assert "[cut: 1048576 bytes in all" in error.details()
    else:
        assert error.code() is not Code.DATA_LOSS  # Go does not cut


def test_a_plugin_says_how_much_metadata_it_accepts(peers: Any, make_client: Any) -> None:
    command = peers.plugin("python", *config(max_metadata_size=2 << 20))
    _, probe = make_client(command, max_metadata_size=2 << 20).dispense("probe")
    wanted = (("want-trailing-last", LONGER),)
    _, call = probe.Echo.with_call(probe_pb2.EchoRequest(), timeout=TIMEOUT, metadata=wanted)
    assert dict(call.trailing_metadata())["last"] == LONGER
    command = peers.plugin("python", *config(server_options=[["grpc.max_metadata_size", 10000]]))
    _, probe = make_client(command).dispense("probe")
    error = failure(probe.Echo, probe_pb2.EchoRequest(), metadata=(("key", LONG),))
    assert error.code() is Code.RESOURCE_EXHAUSTED


# ---- Options -------------------------------------------------------------------------------------


def agent_of(reply: Any) -> str:
    (agent,) = [item.value for item in reply.metadata if item.key == "user-agent"]
    return bytes(agent).decode()


@two_ways
@pytest.mark.parametrize("plugin", ["python", "go"])
def test_channel_options_of_a_host(plugin: str, how: str, peers: Any, make_client: Any) -> None:
    options = [(b"grpc.primary_user_agent", "mine"), ("grpc.max_receive_message_length", 1000)]
    client = make_client(peers.plugin(plugin), channel_options=options, **HOW[how])
    _, probe = client.dispense("probe")
    reply = probe.Echo(probe_pb2.EchoRequest(), timeout=TIMEOUT)
    assert agent_of(reply).startswith("mine grpc-python/")
    error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=2000))
    assert error.code() is Code.RESOURCE_EXHAUSTED

    async def main() -> None:
        async with aio.Client(
            peers.plugin(plugin),
            handshake_config=client._config.handshake_config,
            plugins=client._config.plugins,
            channel_options=options,
            **HOW[how],
        ) as other:
            _, stub = await other.dispense("probe")
            reply = await stub.Echo(probe_pb2.EchoRequest(), timeout=TIMEOUT)
            assert agent_of(reply).startswith("mine grpc-python/")

    asyncio.run(main())


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_a_service_config_limits_the_messages_of_a_method(
    plugin: str, peers: Any, make_client: Any
) -> None:
    method = probe_pb2.DESCRIPTOR.services_by_name["Probe"].methods_by_name["Echo"]
    name = {"service": method.containing_service.full_name, "method": "Echo"}
    config = {"methodConfig": [{"name": [name], "maxResponseMessageBytes": 1000}]}
    options = [("grpc.service_config", json.dumps(config))]
    _, probe = make_client(peers.plugin(plugin), channel_options=options).dispense("probe")
    assert len(probe.Echo(probe_pb2.EchoRequest(reply_size=500), timeout=TIMEOUT).payload) == 500
    error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=1500))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    large = probe_pb2.CountRequest(n=1, size=1500)
    (reply,) = probe.Count(large, timeout=TIMEOUT)
    assert len(reply.payload) == 1500


def test_the_user_agent_is_one_of_grpc_python(peers: Any, make_client: Any) -> None:
    for plugin in ("python", "go", "grpcio"):
        _, probe = make_client(peers.plugin(plugin)).dispense("probe")
        reply = probe.Echo(probe_pb2.EchoRequest(), timeout=TIMEOUT)
        assert agent_of(reply).startswith("grpc-python/")


@each_way
def test_options_of_brokered_connections_of_a_host(how: str, peers: Any, make_client: Any) -> None:
    """channel_options apply to what the host dials, server_options to what it serves."""
    client = make_client(
        [sys.executable, broker_plugin.__file__],
        channel_options=[("grpc.max_receive_message_length", 1000)],
        server_options=[("grpc.max_receive_message_length", 2000)],
        **HOW[how],
        **OPTIONS,
    )
    broker, test = client.dispense("test")
    served = test.ServeAll(b"", timeout=TIMEOUT)
    with broker.dial(int(served)) as channel:
        stub = probe_pb2_grpc.ProbeStub(channel)
        assert len(stub.Echo(probe_pb2.EchoRequest(reply_size=500), timeout=TIMEOUT).payload) == 500
        error = failure(stub.Echo, probe_pb2.EchoRequest(reply_size=1500))
        assert error.code() is Code.RESOURCE_EXHAUSTED
    test.Stop(served, timeout=TIMEOUT)

    def of(data: bytes) -> bytes:
        return data

    service_id = broker.next_id()
    own = {"options": [("grpc.max_send_message_length", 100)]}
    server = broker.accept_and_serve(service_id, lambda server: add(server, Echo=of), **own)
    error = failure(test.CallBack, b"%d" % service_id + b" " * 500)
    assert "Sent message larger than max" in error.details()
    server.stop(None)
    with broker.serve(serve_all) as service_id:
        error = failure(test.CallBack, b"%d" % service_id + b" " * 2500)
        assert "Received message larger than max" in error.details()


@two_ways_of("kind", "blocking", "aio", "grpcio")
def test_options_of_brokered_connections_of_a_plugin(kind: str, how: str, make_client: Any) -> None:
    command = [sys.executable, broker_plugin.__file__]
    command += {"blocking": [], "aio": ["--aio"], "grpcio": ["--grpcio"]}[kind]
    command += config(channel_options=[["grpc.max_receive_message_length", 1000]])
    client = make_client(command, **HOW[how], **OPTIONS)
    broker, test = client.dispense("test")
    with broker.serve(lambda server: add(server, Echo=lambda data: data * 20)) as service_id:
        number = b"%d" % service_id
        assert test.CallBack(number, timeout=TIMEOUT) == number * 20
    with broker.serve(lambda server: add(server, Echo=lambda data: data * 2000)) as service_id:
        error = failure(test.CallBack, b"%d" % service_id)
        assert "Received message larger than max" in error.details()


@two_ways_of("server", "core", "aio", "grpcio")
def test_server_options_of_a_plugin(server: str, how: str, peers: Any, make_client: Any) -> None:
    options = [["grpc.max_send_message_length", 1000], ["grpc.max_receive_message_length", 2000]]
    command = peers.plugin("python", "--server", server, *config(server_options=options))
    _, probe = make_client(command, **HOW[how]).dispense("probe")
    error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=1500))
    assert "Sent message larger than max" in error.details()
    error = failure(probe.Echo, probe_pb2.EchoRequest(payload=bytes(2500)))
    assert "Received message larger than max" in error.details()


@two_ways
def test_server_options_go_for_what_the_plugins_broker_serves(how: str, make_client: Any) -> None:
    options = [["grpc.max_send_message_length", 1000]]
    command = [sys.executable, broker_plugin.__file__, *config(server_options=options)]
    broker, test = make_client(command, **HOW[how], **OPTIONS).dispense("test")
    served = test.Serve(b"", timeout=TIMEOUT)
    with broker.dial(int(served)) as channel:
        assert Test(channel).Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
        assert "larger than max" in failure(Test(channel).Echo, bytes(1500)).details()
    test.Stop(served, timeout=TIMEOUT)


# ---- Messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_the_limits_of_a_host(plugin: str, peers: Any, make_client: Any) -> None:
    client = make_client(
        peers.plugin(plugin), max_receive_message_length=1000, max_send_message_length=2000
    )
    _, probe = client.dispense("probe")
    assert len(probe.Echo(probe_pb2.EchoRequest(reply_size=500), timeout=TIMEOUT).payload) == 500
    error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=1500))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert "Received message larger than max" in error.details()
    error = failure(probe.Echo, probe_pb2.EchoRequest(payload=bytes(2500)))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert "Sent message larger than max" in error.details()


@pytest.mark.parametrize("server", ["core", "aio", "grpcio"])
def test_the_limits_of_a_plugin(server: str, peers: Any, make_client: Any) -> None:
    limits = config(max_receive_message_length=2000, max_send_message_length=1000)
    _, probe = make_client(peers.plugin("python", "--server", server, *limits)).dispense("probe")
    error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=1500))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    error = failure(probe.Echo, probe_pb2.EchoRequest(payload=bytes(2500)))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert len(probe.Echo(probe_pb2.EchoRequest(reply_size=500), timeout=TIMEOUT).payload) == 500


# ---- Memory --------------------------------------------------------------------------------------

ISOLATED = Path(__file__).resolve().parents[1] / "isolated"


@pytest.mark.parametrize("run", ["blocking", "asyncio"])
@pytest.mark.parametrize("plugin", ["python", "go"])
def test_a_host_with_limited_address_space(run: str, plugin: str, peers: Any) -> None:
    """gRPC's core aborts if it cannot allocate; the limits keep it from that.

    They leave room for messages only if the library's threads do not take most of the gigabyte.
    """
    command = ["sh", "-c", 'ulimit -S -v unlimited; exec "$@"', "sh", *peers.plugin(plugin)]
    done = subprocess.run(
        [sys.executable, str(ISOLATED / "memory_host.py"), run, *command],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    expected = ["1048576", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "1"]
    *calls, taken = done.stdout.split() or [""]
    assert (calls, done.returncode) == (expected, 0), done.stderr[-2000:]
    assert int(taken) < 512


@pytest.mark.parametrize("server", ["core", "aio"])
def test_a_plugin_with_limited_address_space(server: str, peers: Any, make_client: Any) -> None:
    plugin = peers.plugin("python", "--server", server)
    client = make_client(["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", *plugin])
    _, probe = client.dispense("probe")
    large = probe_pb2.EchoRequest(payload=bytes(400 << 20))
    for _ in range(2):
        assert failure(probe.Echo, large).code() is Code.RESOURCE_EXHAUSTED
        assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload == b"x"


@two_ways
@pytest.mark.parametrize("server", ["core", "aio"])
def test_the_memory_quota_of_a_plugin(server: str, how: str, peers: Any, make_client: Any) -> None:
    quota = config(memory_quota=32 << 20)
    client = make_client(peers.plugin("python", "--server", server, *quota), **HOW[how])
    _, probe = client.dispense("probe")
    assert len(probe.Echo(probe_pb2.EchoRequest(payload=bytes(8 << 20))).payload) == 8 << 20
    before = most_memory(client.pid)
    large = probe_pb2.EchoRequest(payload=bytes(300 << 20))
    for _ in range(2):
        assert failure(probe.Echo, large).code() is Code.RESOURCE_EXHAUSTED
        assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload == b"x"
    assert most_memory(client.pid) - before < 128


@two_ways
@pytest.mark.parametrize("plugin", ["python", "go"])
def test_the_memory_quota_of_a_host(plugin: str, how: str, peers: Any, make_client: Any) -> None:
    client = make_client(peers.plugin(plugin), memory_quota=32 << 20, **HOW[how])
    _, probe = client.dispense("probe")
    assert len(probe.Echo(probe_pb2.EchoRequest(reply_size=8 << 20)).payload) == 8 << 20
    before = most_memory()
    for _ in range(2):
        error = failure(probe.Echo, probe_pb2.EchoRequest(reply_size=300 << 20))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert probe.Echo(probe_pb2.EchoRequest(payload=b"x"), timeout=TIMEOUT).payload == b"x"
    assert most_memory() - before < 128


@pytest.mark.parametrize("side", ["host", "plugin"])
def test_the_memory_quota_goes_for_brokered_connections(side: str, make_client: Any) -> None:
    """gRPC chooses which call it ends, among all connections that share the quota."""
    quota = {"memory_quota": 32 << 20}
    command = [sys.executable, broker_plugin.__file__, *config(**quota if side == "plugin" else {})]
    client = make_client(command, **OPTIONS, **quota if side == "host" else {})
    broker, test = client.dispense("test")
    served = test.ServeAll(b"", timeout=TIMEOUT)
    pid: int | str = "self"
    request = probe_pb2.EchoRequest(reply_size=300 << 20)
    if side == "plugin":
        pid, request = client.pid, probe_pb2.EchoRequest(payload=bytes(300 << 20))
    before = most_memory(pid)
    with broker.dial(int(served)) as channel:
        error = failure(probe_pb2_grpc.ProbeStub(channel).Echo, request)
        assert error.code() in (Code.RESOURCE_EXHAUSTED, Code.CANCELLED, Code.UNAVAILABLE)
    assert most_memory(pid) - before < 128
    assert client.ping() == ""
