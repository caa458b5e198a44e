"""The options env, cwd and name, with plugins in Python and in Go, over both protocols."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import netrpc_peer
import pytest

from pygo_plugin import ClosedError, aio

pytestmark = pytest.mark.usefixtures("no_leftovers")

NAMES = {"python": "pygo_plugin_peer.py", "go": "plugin"}
each_plugin = pytest.mark.parametrize(
    "plugin", ["python", pytest.param("go", marks=pytest.mark.go)]
)


@each_plugin
@pytest.mark.parametrize("name", [None, "mine"])
def test_blocking(
    plugin: str, name: str | None, peers: Any, make_client: Any, records: Any, tmp_path: Path
) -> None:
    import probe_pb2

    env = {"PYGO_OPTION": "a=b"}
    client = make_client(peers.plugin(plugin), env=env, cwd=tmp_path, name=name)
    _, probe = client.dispense("probe")
    found = probe.Environ(probe_pb2.EnvironRequest(), timeout=20)
    assert found.environ["PYGO_OPTION"] == b"a=b"
    assert found.environ["PATH"] == os.fsencode(os.environ["PATH"])
    assert found.cwd == os.fsencode(tmp_path.resolve())
    assert client.name == (name or NAMES[plugin])
    lines = [probe_pb2.Line(channel="LOG", text=b"a line", level="warn")]
    probe.Print(probe_pb2.PrintRequest(lines=lines), timeout=20)
    assert records.wait_for("a line").name == f"pygo_plugin.plugin.{client.name}"
    client.kill()
    assert client.ping().startswith(f"{client.name}: ")


@each_plugin
def test_asyncio(plugin: str, peers: Any, handshake: Any, plugins: Any, tmp_path: Path) -> None:
    import probe_pb2

    directory = os.fsencode(tmp_path.resolve())

    async def test() -> None:
        async with aio.Client(
            peers.plugin(plugin),
            handshake_config=handshake,
            plugins=plugins,
            env=["PYGO_OPTION=a=b"],
            cwd=tmp_path,
            name="mine",
        ) as client:
            _, probe = await client.dispense("probe")
            found = await probe.Environ(probe_pb2.EnvironRequest(), timeout=20)
            assert found.environ["PYGO_OPTION"] == b"a=b"
            assert found.cwd == directory
        assert (await client.ping()).startswith("mine: ")

    asyncio.run(test())


@each_plugin
def test_netrpc(plugin: str, peers: Any, make_client: Any) -> None:
    client = make_client(
        peers.netrpc_plugin(plugin),
        plugins=netrpc_peer.plugins(),
        allowed_protocols=["netrpc"],
        name="mine",
    )
    test = client.dispense("test")
    client.kill()
    with pytest.raises(ClosedError, match=r"^mine: "):
        test.echo(b"")
