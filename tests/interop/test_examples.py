"""The examples run, with plugins in Python and in Go; tests/docs follows their READMEs."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from example_programs import EXAMPLES, built, fail, run

KV = EXAMPLES / "kv"
GREETER = EXAMPLES / "greeter"
UPGRADE = EXAMPLES / "upgrade"

pytestmark = pytest.mark.usefixtures("no_leftovers")


def run_python(*command: Any, directory: Path, **environment: str) -> str:
    return run(sys.executable, *command, directory=directory, **environment)


@pytest.fixture(params=["python", pytest.param("go", marks=pytest.mark.go)])
def kv_plugin(request: pytest.FixtureRequest) -> str:
    if request.param == "python":
        return f"{sys.executable} {KV / 'plugin.py'}"
    return str(built("kv-go"))


def test_kv_example(kv_plugin: str, tmp_path: Path) -> None:
    host = KV / "host.py"
    output = run_python(host, directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert "got greeting = hello, plugin\n" in output
    assert output.endswith("its exit status is 0\n")

    run_python(host, "put", "../key", "a value", directory=tmp_path, KV_PLUGIN=kv_plugin)
    output = run_python(host, "get", "../key", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output == "got ../key = a value\n"
    output = run_python(host, "get", "nothing", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output.startswith("got nothing: there is no key")

    output = run_python(
        host, "put", "k", "v", directory=tmp_path, KV_PLUGIN=kv_plugin, KV_LOG="INFO"
    )
    assert "stored a value\n" in output


def test_kv_example_with_asyncio(kv_plugin: str, tmp_path: Path) -> None:
    output = run_python(KV / "host_async.py", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output.startswith("put and got 100 values\n")
    assert output.endswith("its exit status is 0\n")


def test_kv_example_with_a_plugin_that_fails(tmp_path: Path) -> None:
    errors = fail(sys.executable, KV / "host.py", "false", directory=tmp_path)
    assert errors.startswith("the plugin failed: false: ")


def test_upgrade_example(tmp_path: Path) -> None:
    host = UPGRADE / "host.py"
    first = run_python(host, "40", directory=tmp_path)
    match = re.fullmatch(r"started process (\d+)\nthe total is 40\n", first)
    assert match
    second = run_python(host, "2", directory=tmp_path)
    assert second == f"reattached to process {match[1]}\nthe total is 42\n"
    assert run_python(host, "stop", directory=tmp_path).endswith("stopped\n")


def test_upgrade_example_after_the_plugins_own_end(tmp_path: Path, eventually: Any) -> None:
    host = UPGRADE / "host.py"
    first = run_python(host, "1", directory=tmp_path)
    pid = int(first.split()[2])
    address = json.loads((tmp_path / "plugin.json").read_text())["Addr"]["String"]
    os.kill(pid, signal.SIGTERM)  # which lets it remove its socket
    eventually(lambda: not os.path.exists(address), "the socket's end")
    second = run_python(host, "1", directory=tmp_path)
    assert second.startswith("starting anew: ")
    assert "process not found" in second
    assert second.endswith("the total is 1\n")
    run_python(host, "stop", directory=tmp_path)


@pytest.mark.parametrize("grpcio", [True, False], ids=["grpcio", "no grpcio"])
def test_greeter_example(grpcio: bool, tmp_path: Path) -> None:
    if not grpcio:
        (tmp_path / "grpc.py").write_text("raise ImportError('there is no grpcio here')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    output = run_python(GREETER / "host.py", "you", "", directory=tmp_path, PYTHONPATH=path)
    assert output == "hello, you\nINVALID_ARGUMENT: nobody to greet\n"
