"""Encrypted connections between hosts and plugins of ours and Go's, in both roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Pair

from pygo_plugin import TLSConfig, TLSError

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0


@pytest.fixture(params=["unix", "tcp"])
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["go", "core", "aio"])
def command(request: pytest.FixtureRequest, peers: Any, network: str) -> list[str]:
    options = ["--network", network]
    command: list[str] = (
        peers.plugin("go", *options)
        if request.param == "go"
        else peers.plugin("python", "--server", request.param, *options)
    )
    return command


def use(client: Any) -> None:
    """Launch, call, and end the plugin."""
    import kv_pb2
    import probe_pb2

    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=DEADLINE)
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=DEADLINE).value == b"v"
    _, probe = client.dispense("probe")
    counted = probe.Count(probe_pb2.CountRequest(n=3), timeout=DEADLINE)
    assert [reply.number for reply in counted] == [0, 1, 2]
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0


def use_from_go(go_host: Any) -> None:
    go_host.do("kv_put", key="k", value="v")
    assert go_host.do("kv_get", key="k")["value"] == "v"
    assert go_host.do("count", n=3)["in_order"]
    go_host.do("ping")
    killed = go_host.do("kill")
    assert killed["exited"]
    assert not killed["forced"]


# ---- AutoMTLS ------------------------------------------------------------------------------------


def test_auto_mtls_of_our_host(command: list[str], network: str, make_client: Any) -> None:
    client = make_client(command, auto_mtls=True)
    assert client.start().network() == network
    use(client)


def test_auto_mtls_of_a_go_host(command: list[str], network: str, go_host: Any) -> None:
    assert go_host.do("start", cmd=command, auto_mtls=True)["network"] == network
    use_from_go(go_host)


# ---- TLS of one's own ----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, authority: Authority, server_pair: Pair, client_pair: Pair) -> Any:
    """PEM files by name."""
    texts = {
        "ca": authority.root,
        "cert": server_pair.chain,
        "key": server_pair.key,
        "client_cert": client_pair.chain,
        "client_key": client_pair.key,
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    return {name: str(tmp_path / name) for name in texts}


@pytest.fixture(params=[False, True], ids=["one-sided", "mutual"])
def mutual(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def secured(command: list[str], files: Any, mutual: bool) -> list[str]:
    """The command of a plugin that serves TLS."""
    dash = "--" if "--server" in command else "-"  # as Python and Go write their options
    names = ["cert", "key", *(["ca"] if mutual else [])]
    return [*command, *(part for name in names for part in (f"{dash}tls-{name}", files[name]))]


def test_tls_of_our_host(secured: list[str], files: Any, mutual: bool, make_client: Any) -> None:
    pair = (files["client_cert"], files["client_key"]) if mutual else ()
    use(make_client(secured, tls_config=TLSConfig(files["ca"], *pair)))


def test_tls_of_a_go_host(secured: list[str], files: Any, mutual: bool, go_host: Any) -> None:
    # Go's host presents its own certificate to any server that asks.
    tls = {"ca": files["ca"], "server_name": "localhost"}
    if mutual:
        tls.update(cert=files["client_cert"], key=files["client_key"])
    go_host.do("start", cmd=secured, tls=tls)
    use_from_go(go_host)


def test_a_go_plugin_refuses_a_host_without_certificate(
    peers: Any, files: Any, make_client: Any
) -> None:
    options = [f"--tls-{name}={files[name]}" for name in ("cert", "key", "ca")]
    client = make_client(peers.plugin("go", *options), tls_config=TLSConfig(files["ca"]))
    with pytest.raises(TLSError, match="the host has none to show") as caught:
        client.start()
    assert caught.value.reason == "refused"
    client = make_client(peers.plugin("go", *options), auto_mtls=True)
    with pytest.raises(TLSError, match="holds no certificate"):
        client.start()


def test_a_go_plugin_in_plain_text(peers: Any, files: Any, make_client: Any) -> None:
    client = make_client(peers.plugin("go"), tls_config=TLSConfig(files["ca"]))
    with pytest.raises(TLSError, match="answered in plain text"):
        client.start()
