"""Every host with every plugin over every network: the whole life of a plugin each time."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

PLUGINS = ["python", "go", "grpcio"]
NETWORKS = ["unix", "tcp"]


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PLUGINS)
def command(request: pytest.FixtureRequest, peers: Any, network: str) -> list[str]:
    command: list[str] = peers.plugin(request.param, "--network", network)
    return command


def test_python_host(command: list[str], network: str, make_client: Any, records: Any) -> None:
    import grpc
    import kv_pb2
    import probe_pb2

    client = make_client(command)
    assert not client.exited()
    assert client.start().network() == network
    assert client.negotiated_version == 1
    assert client.protocol == "grpc"

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v\0"), timeout=10)
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=10).value == b"v\0"
    with pytest.raises(grpc.RpcError) as caught:
        kv.Get(kv_pb2.GetRequest(key="nothing"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]

    _, probe = client.dispense("probe")
    reply = probe.Echo(probe_pb2.EchoRequest(payload=b"hello"), timeout=10)
    assert reply.payload == b"hello"
    assert reply.pid == client.pid
    assert [r.number for r in probe.Count(probe_pb2.CountRequest(n=3), timeout=10)] == [0, 1, 2]

    entry = probe_pb2.Line(channel="LOG", text=b"a warning", level="warn", fields={"key": "value"})
    plain = probe_pb2.Line(channel="STDERR", text=b"[ERROR] plain words\n", raw=True)
    probe.Print(probe_pb2.PrintRequest(lines=[entry, plain]), timeout=10)
    record = records.wait_for("a warning")
    assert (record.levelname, record.hclog_module) == ("WARNING", "peer")
    assert record.hclog["key"] == "value"
    assert record.plugin_pid == client.pid

    assert client.ping() == ""
    assert not client.exited()
    client.kill()
    assert client.exited()
    assert client.exit_status == 0
    assert client.ping() != ""


def test_go_host(command: list[str], network: str, go_host: Any) -> None:
    started = go_host.do("start", cmd=command)
    assert started["network"] == network
    assert started["negotiated_version"] == 1
    assert started["protocol"] == "grpc"

    go_host.do("kv_put", key="k", value="v")
    assert go_host.do("kv_get", key="k")["value"] == "v"
    assert go_host.ask("kv_get", key="nothing")["code"] == "NOT_FOUND"
    echoed = go_host.do("echo", value="hello")
    assert echoed["equal"]
    assert echoed["pid"] == started["pid"]
    counted = go_host.do("count", n=3)
    assert counted["in_order"]
    assert counted["count"] == 3

    line = {"channel": "LOG", "text": "a warning", "level": "warn", "fields": {"key": "value"}}
    go_host.do("print", lines=[line])
    entries = go_host.do("logs", until="a warning")["records"]
    (entry,) = [e for e in entries if e["message"] == "a warning"]
    assert entry["level"] == "warn"
    assert entry["fields"]["key"] == "value"

    go_host.do("ping")
    assert not go_host.do("exited")["exited"]
    killed = go_host.do("kill")
    assert killed["exited"]
    assert not killed["forced"]
    assert go_host.do("exited")["exited"]


@pytest.mark.parametrize("plugin", ["go", "python"])
def test_a_plugin_that_prints_much_goes_on(plugin: str, peers: Any, make_client: Any) -> None:
    """go-plugin feeds what a plugin prints into a stream that its host has to take (protocol 7)."""
    import probe_pb2

    client = make_client(peers.plugin(plugin))
    _, probe = client.dispense("probe")
    lines = [probe_pb2.Line(channel=name, text=b"x" * 1000) for name in ("STDOUT", "STDERR")]
    for _ in range(4):
        probe.Print(probe_pb2.PrintRequest(repeat=250, lines=lines), timeout=20)
    assert client.ping() == ""
