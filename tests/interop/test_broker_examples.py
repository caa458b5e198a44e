"""examples/bidirectional and examples/streaming, with Python and Go on either side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from example_programs import EXAMPLES, built, fail, run, without_yamux

COUNTER = EXAMPLES / "bidirectional"
STREAMING = EXAMPLES / "streaming"
GO = {COUNTER: "counter-go", STREAMING: "streaming-go"}

pytestmark = pytest.mark.usefixtures("no_leftovers")


def program(example: Path, name: str, language: str) -> list[Any]:
    """The host or the plugin of an example."""
    if language == "python":
        return [sys.executable, example / f"{name}.py"]
    return [built(GO[example], name)]


GO_MARK = pytest.mark.go
# Without Go to Go over one socket: go-plugin leaves that socket behind.
CELLS = [
    pytest.param("python", "python", False, id="python-python-sockets"),
    pytest.param("python", "python", True, id="python-python-multiplexed"),
    pytest.param("python", "go", False, id="python-go-sockets", marks=GO_MARK),
    pytest.param("python", "go", True, id="python-go-multiplexed", marks=GO_MARK),
    pytest.param("go", "python", False, id="go-python-sockets", marks=GO_MARK),
    pytest.param("go", "python", True, id="go-python-multiplexed", marks=GO_MARK),
    pytest.param("go", "go", False, id="go-go-sockets", marks=GO_MARK),
]


each_cell = pytest.mark.parametrize(("host", "plugin", "multiplex"), CELLS)
each_security = pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "mtls"])


def options(host: str, auto_mtls: bool, multiplex: bool) -> list[str]:
    asked = ["auto-mtls"] * auto_mtls + ["multiplex"] * multiplex
    return [("--" if host == "python" else "-") + option for option in asked]


@each_security
@each_cell
def test_counter(host: str, plugin: str, auto_mtls: bool, multiplex: bool, tmp_path: Path) -> None:
    asked = options(host, auto_mtls, multiplex)
    command = [*program(COUNTER, "host", host), *asked, *program(COUNTER, "plugin", plugin)]
    output = without_yamux(run(*command, directory=tmp_path))
    assert output == ("the plugin asks for 0 + 3\nthe plugin asks for 3 + 4\napples = 7\n")


@each_security
@each_cell
def test_streaming(
    host: str, plugin: str, auto_mtls: bool, multiplex: bool, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"".join(b"line %d, \xff\n" % i for i in range(20_000)))
    command = [*program(STREAMING, "host", host), *options(host, auto_mtls, multiplex)]
    command += [source, "target", *program(STREAMING, "plugin", plugin)]
    output = without_yamux(run(*command, directory=tmp_path))
    assert output == "copied 20000 lines\n"
    assert (tmp_path / "target").read_bytes() == source.read_bytes().upper()


@pytest.mark.parametrize("plugin", ["python", pytest.param("go", marks=pytest.mark.go)])
def test_streaming_to_a_file_that_is_full(plugin: str, tmp_path: Path) -> None:
    """A write error on the host reaches the plugin, and then the host's call."""
    source = tmp_path / "source"
    source.write_bytes(b"a line\n" * 100_000)
    command = [*program(STREAMING, "host", "python"), source, "/dev/full"]
    command += program(STREAMING, "plugin", plugin)
    assert "No space left on device" in fail(*command, directory=tmp_path)


@pytest.mark.go
@pytest.mark.parametrize("multiplex", [False, True], ids=["sockets", "multiplexed"])
@each_security
def test_many_rounds_with_a_go_host(auto_mtls: bool, multiplex: bool, tmp_path: Path) -> None:
    command = [*program(COUNTER, "host", "go"), *options("go", auto_mtls, multiplex)]
    command += ["-rounds", "50", *program(COUNTER, "plugin", "python")]
    assert run(*command, directory=tmp_path).endswith("apples = 350\n")
