"""Every host with every plugin over every network: the whole life of a plugin each time."""

from __future__ import annotations

from pathlib import Path
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
    """go-plugin sends the output on a stream that the host has to read (protocol 7)."""
    import probe_pb2

    client = make_client(peers.plugin(plugin))
    _, probe = client.dispense("probe")
    lines = [probe_pb2.Line(channel=name, text=b"x" * 1000) for name in ("STDOUT", "STDERR")]
    for _ in range(4):
        probe.Print(probe_pb2.PrintRequest(repeat=250, lines=lines), timeout=20)
    assert client.ping() == ""


# ---- Versions -----------------------------------------------------------------------------------

VERSIONS = {  # the host's, the plugin's, what they agree on
    "match": ([1, 2], [1, 2], 2),
    "host newer": ([2, 3], [1, 2], 2),
    "plugin newer": ([1, 2], [2, 3, 4], 2),
    "none": ([1, 2], [3, 4], None),
}


@pytest.fixture(params=VERSIONS)
def versions(request: pytest.FixtureRequest) -> tuple[list[int], list[int], int | None]:
    return VERSIONS[request.param]


def with_versions(peers: Any, plugin: str, versions: list[int]) -> list[str]:
    command: list[str] = peers.plugin(plugin, "--versions", ",".join(map(str, versions)))
    return command


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_versions_with_a_python_host(
    plugin: str, versions: tuple[list[int], list[int], int | None], peers: Any, make_client: Any
) -> None:
    import probe_pb2
    from pygo_plugin_peer import plugins

    from pygo_plugin import VersionError

    ours, theirs, agreed = versions
    client = make_client(
        with_versions(peers, plugin, theirs),
        versioned_plugins={version: plugins(version) for version in ours},
    )
    if agreed is None:
        with pytest.raises(VersionError, match=r"version 3, this host speaks 1, 2") as caught:
            client.start()
        assert caught.value.plugin_version == 3
        assert list(caught.value.host_versions) == ours
        if plugin == "python":
            assert '"1,2", this plugin 3, 4; it serves 3' in str(caught.value)
        assert client.exited()
        return
    _, probe = client.dispense("probe")
    assert client.negotiated_version == agreed
    assert probe.Environ(probe_pb2.EnvironRequest(), timeout=10).version == agreed


@pytest.mark.parametrize("plugin", ["python", "go"])
def test_versions_with_a_go_host(
    plugin: str,
    versions: tuple[list[int], list[int], int | None],
    peers: Any,
    go_host: Any,
    socket_dir: Path,
) -> None:
    ours, theirs, agreed = versions
    command = with_versions(peers, plugin, theirs)
    if agreed is None:
        failed = go_host.ask("start", cmd=command, versions=ours)
        assert not failed["ok"]
        assert "incompatible api version" in failed["error"].lower()
        for path in socket_dir.iterdir():  # a Go host kills and does not tidy up
            path.unlink()
        return
    started = go_host.do("start", cmd=command, versions=ours)
    assert started["negotiated_version"] == agreed
    assert go_host.do("environ")["version"] == agreed
    assert go_host.do("kill")["exited"]


# ---- Stdio --------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["core", "aio", "grpcio"])
def test_what_a_plugin_prints_reaches_a_go_host(
    server: str, network: str, peers: Any, go_host: Any
) -> None:
    go_host.do("start", cmd=peers.plugin("python", "--network", network, "--server", server))
    lines = [
        {"channel": "STDOUT", "text": "to stdout\n"},
        {"channel": "STDERR", "text": "to descriptor 2\n", "raw": True},
        {"channel": "STDOUT", "text": "by the descriptor\n", "raw": True},
        {"channel": "STDERR", "text": "to sys.stderr\n"},  # the log
        {"channel": "LOG", "text": "to the log"},
    ]
    for line in lines:
        go_host.do("print", lines=[line])
    logged = go_host.do("logs", until="to the log")
    assert "to sys.stderr\n" in logged["stderr"]
    printed = go_host.do("stdio", until="by the descriptor")
    assert printed["stdout"] == "to stdout\nby the descriptor\n"
    printed["stderr"] += go_host.do("stdio")["stderr"]
    assert printed["stderr"] == "to descriptor 2\n"
    killed = go_host.do("kill")
    assert killed["exited"]
    assert not killed["forced"]


def test_a_go_host_gets_much_output(peers: Any, go_host: Any) -> None:
    go_host.do("start", cmd=peers.plugin("python"))
    line = {"channel": "STDOUT", "text": "x" * 1023 + "\n"}
    for _ in range(8):
        go_host.do("print", lines=[line], repeat=1024)
    go_host.do("print", lines=[{"channel": "STDOUT", "text": "the end\n"}])
    assert len(go_host.do("stdio", until="the end")["stdout"]) == (8 << 20) + len("the end\n")
    assert not go_host.do("kill")["forced"]


# ---- Many calls at once -------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["core", "aio"])
def test_a_go_host_cancels_more_calls_than_a_pool_would_have_threads(
    server: str, peers: Any, go_host: Any
) -> None:
    go_host.do("start", cmd=peers.plugin("python", "--server", server))
    hung = go_host.do("hang_many", count=60)
    assert (hung["started"], hung["noticed"]) == (True, True)
    assert hung["codes"] == {"CANCELLED": 60}
    assert not go_host.do("kill")["forced"]
