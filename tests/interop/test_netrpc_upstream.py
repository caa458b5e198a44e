"""The examples of go-plugin that speak net/rpc, unmodified: their hosts and their plugins."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import upstream_plugin
from example_programs import run

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]


def script(path: Path, *command: str) -> None:
    """A program at a path that a host has compiled in."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


UPSTREAM = {"basic": "plugin", "grpc": "plugin-go-netrpc", "negotiated": "plugin-go"}


@pytest.fixture(params=["go", "python"])
def plugin(request: pytest.FixtureRequest, peers: Any) -> Any:
    """The command of the plugin that belongs to an example's host."""

    def command(example: str) -> list[str]:
        if request.param == "python":
            return [sys.executable, upstream_plugin.__file__, example]
        return [peers.upstream(UPSTREAM[example])]

    return command


@pytest.fixture
def dispense(make_client: Any, plugin: Any) -> Any:
    """Starts the plugin of an example by our host, and dispenses from it."""

    def dispense(example: str, name: str) -> Any:
        client = make_client(
            plugin(example),
            handshake_config=upstream_plugin.HANDSHAKE,
            plugins=upstream_plugin.PLUGINS[example],
            allowed_protocols=["netrpc"],
        )
        return client.dispense(name)

    return dispense


def test_basic(plugin: Any, peers: Any, tmp_path: Path) -> None:
    script(tmp_path / "plugin" / "greeter", *plugin("basic"))
    output = run(peers.upstream("basic"), directory=tmp_path)
    assert "\nHello!\n" in output
    assert "message from GreeterHello.Greet" in output


def test_grpc_with_its_netrpc_plugin(plugin: Any, peers: Any, tmp_path: Path) -> None:
    host = peers.upstream("grpc")
    environment = {"KV_PROTO": "netrpc", "KV_PLUGIN": shlex.join(plugin("grpc"))}
    run(host, "put", "hello", "world", directory=tmp_path, **environment)
    output = run(host, "get", "hello", directory=tmp_path, **environment)
    assert "world\n\nWritten from plugin-go-netrpc\n" in output
    assert (tmp_path / "kv_hello").read_text() == "world\n\nWritten from plugin-go-netrpc"


@pytest.mark.parametrize(("protocol", "version"), [("netrpc", 2), ("grpc", 3)])
def test_negotiated(protocol: str, version: int, peers: Any, tmp_path: Path) -> None:
    script(tmp_path / "kv-plugin", peers.upstream(UPSTREAM["negotiated"]))
    host = peers.upstream("negotiated")
    run(host, "put", "hello", "world", directory=tmp_path, KV_PROTO=protocol)
    output = run(host, "get", "hello", directory=tmp_path, KV_PROTO=protocol)
    by = f"plugin version {version}\n"
    assert f"world\n\nWritten from {by}Read by {by}\n" in output


# ---- Our host ------------------------------------------------------------------------------------


def test_our_host_with_basics_plugin(
    dispense: Any, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    with caplog.at_level(logging.DEBUG, "pygo_plugin.plugin"):
        assert dispense("basic", "greeter").greet(None) == "Hello!"
        eventually(lambda: "message from GreeterHello.Greet" in caplog.text, "the plugin's record")


def test_our_host_with_grpcs_netrpc_plugin(
    dispense: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kv = dispense("grpc", "kv")
    kv.put({"key": "hello", "value": b"world"})
    assert kv.get("hello") == b"world\n\nWritten from plugin-go-netrpc"
