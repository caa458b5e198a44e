"""The examples of go-plugin that speak net/rpc, unmodified: their hosts and their plugins."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from example_programs import run

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

KINDS = ["go"]


def script(path: Path, *command: str) -> None:
    """A program at a path that a host has compiled in."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


@pytest.fixture(params=KINDS)
def plugin(request: pytest.FixtureRequest, peers: Any) -> Any:
    """The command of the plugin that belongs to an example's host."""
    upstream = {"basic": "plugin", "grpc": "plugin-go-netrpc", "negotiated": "plugin-go"}

    def command(example: str) -> list[str]:
        return [peers.upstream(upstream[example])]

    return command


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
def test_negotiated(protocol: str, version: int, plugin: Any, peers: Any, tmp_path: Path) -> None:
    script(tmp_path / "kv-plugin", *plugin("negotiated"))
    host = peers.upstream("negotiated")
    run(host, "put", "hello", "world", directory=tmp_path, KV_PROTO=protocol)
    output = run(host, "get", "hello", directory=tmp_path, KV_PROTO=protocol)
    by = f"plugin version {version}\n"
    assert f"world\n\nWritten from {by}Read by {by}\n" in output
