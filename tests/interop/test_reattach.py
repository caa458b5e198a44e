"""Reattaching to plugins that another process has launched, in both roles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pygo_plugin import ReattachConfig, aio

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]


def to_go(config: ReattachConfig) -> dict[str, Any]:
    """The config as the Go host of the suite takes it."""
    return {
        "protocol": config.protocol,
        "protocol_version": config.protocol_version,
        "network": config.network,
        "address": config.address,
        "pid": config.pid,
        "test": config.test,
    }


@pytest.mark.parametrize("plugin", ["python", "go", "grpcio"])
@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_go_host_joins_what_python_launched(
    plugin: str, network: str, peers: Any, make_client: Any, go_host: Any, eventually: Any
) -> None:
    import kv_pb2

    client = make_client(peers.plugin(plugin, "--network", network))
    _, kv = client.dispense("kv")
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=20)

    joined = go_host.do("start", reattach=to_go(client.reattach_config()))
    assert (joined["network"], joined["address"]) == (network, client.start().string())
    assert go_host.do("kv_get", key="k")["value"] == "v"
    go_host.do("ping")
    assert go_host.do("kill")["exited"]
    eventually(client.exited, "the plugin's end")


@pytest.mark.parametrize("plugin", ["python", "go", "grpcio"])
@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_python_host_joins_what_go_launched(
    plugin: str, network: str, peers: Any, make_client: Any, go_host: Any
) -> None:
    import kv_pb2

    started = go_host.do("start", cmd=peers.plugin(plugin, "--network", network))
    go_host.do("kv_put", key="k", value="v")
    theirs = go_host.do("reattach_config")["reattach"]
    text = json.dumps(
        {
            "Protocol": theirs["protocol"],
            "ProtocolVersion": theirs["protocol_version"],
            "Pid": theirs["pid"],
            "Test": theirs["test"],
            "Addr": {"Network": theirs["network"], "String": theirs["address"]},
        }
    )

    client = make_client(reattach_config=ReattachConfig.from_json(text))
    _, kv = client.dispense("kv")
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=20).value == b"v"
    assert client.pid == started["pid"]
    assert client.ping() == ""
    assert not client.exited()
    client.kill()
    assert client.exited()
    assert go_host.do("exited", timeout_ms=20_000)["exited"]


async def use(reattach: ReattachConfig, handshake: Any, plugins: Any) -> bytes:
    import kv_pb2

    options = {"handshake_config": handshake, "plugins": plugins}
    async with aio.Client(reattach_config=reattach, **options) as client:
        _, kv = await client.dispense("kv")
        reply = await kv.Get(kv_pb2.GetRequest(key="k"), timeout=20)
        assert client.reattach_config().pid == reattach.pid
        return bytes(reply.value)


def test_asyncio_host_joins_what_go_launched(
    peers: Any, go_host: Any, handshake: Any, plugins: Any
) -> None:
    import asyncio

    go_host.do("start", cmd=peers.plugin("go"))
    go_host.do("kv_put", key="k", value="v")
    theirs = go_host.do("reattach_config")["reattach"]
    where = (theirs["protocol"], theirs["network"], theirs["address"], theirs["pid"])
    assert asyncio.run(use(ReattachConfig(*where), handshake, plugins)) == b"v"
    assert go_host.do("exited", timeout_ms=20_000)["exited"]


def test_both_hosts_find_no_process(make_client: Any, go_host: Any, peers: Any) -> None:
    """The message is that of go-plugin's ErrProcessNotFound."""
    client = make_client(peers.plugin("go"))
    client.start()
    config = client.reattach_config()
    client.kill()
    second = make_client(reattach_config=config)
    with pytest.raises(Exception, match="process not found"):
        second.start()
    assert "not found" in go_host.ask("start", reattach=to_go(config))["error"].lower()


def test_go_host_joins_a_test(go_host: Any, eventually: Any) -> None:
    """In test mode the plugin is this process, which kill does not end."""
    import os

    import pygo_plugin_peer

    from pygo_plugin import testing

    options = {"handshake_config": pygo_plugin_peer.HANDSHAKE}
    with testing.serve(pygo_plugin_peer.plugins(), **options) as config:
        go_host.do("start", reattach=to_go(config))
        go_host.do("kv_put", key="k", value="v")
        assert go_host.do("kv_get", key="k")["value"] == "v"
        assert go_host.do("echo", value="x")["pid"] == os.getpid()
        go_host.do("ping")
        go_host.do("kill")
        # Still there for the next one.
        go_host.do("start", client="again", reattach=to_go(config))
        assert go_host.do("kv_get", client="again", key="k")["value"] == "v"
    assert not os.path.exists(config.address)


def test_go_host_gets_the_output_of_a_test(go_host: Any) -> None:
    import os

    import pygo_plugin_peer

    from pygo_plugin import testing

    options = {"handshake_config": pygo_plugin_peer.HANDSHAKE}
    with testing.serve(pygo_plugin_peer.plugins(), sync_stdio=True, **options) as config:
        go_host.do("start", reattach=to_go(config))
        go_host.do("ping")
        os.write(1, b"the output\n")
        assert go_host.do("stdio", until="the output")["stdout"] == "the output\n"
        os.write(2, b"the error\n")
        assert go_host.do("stdio", until="the error")["stderr"] == "the error\n"
        go_host.do("kill")
