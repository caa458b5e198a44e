"""The example and the programs in the documentation run as they are printed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KV = ROOT / "examples" / "kv"
GREETER = ROOT / "examples" / "greeter"
UPGRADE = ROOT / "examples" / "upgrade"
KV_GO = ROOT / "build" / "examples" / "kv-go"

pytestmark = pytest.mark.usefixtures("no_leftovers")


def run(*command: Any, directory: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(params=["python", pytest.param("go", marks=pytest.mark.go)])
def kv_plugin(request: pytest.FixtureRequest) -> str:
    if request.param == "python":
        return f"{sys.executable} {KV / 'plugin.py'}"
    if not KV_GO.exists():
        pytest.fail(f"{KV_GO.relative_to(ROOT)} is missing: run scripts/test --quick")
    return str(KV_GO)


def test_kv_example(kv_plugin: str, tmp_path: Path) -> None:
    host = KV / "host.py"
    output = run(host, directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert "got greeting = hello, plugin\n" in output
    assert output.endswith("its exit status is 0\n")

    run(host, "put", "../key", "a value", directory=tmp_path, KV_PLUGIN=kv_plugin)
    output = run(host, "get", "../key", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output == "got ../key = a value\n"
    output = run(host, "get", "nothing", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output.startswith("got nothing: there is no key")

    output = run(host, "put", "k", "v", directory=tmp_path, KV_PLUGIN=kv_plugin, KV_LOG="INFO")
    assert "stored a value\n" in output


def test_kv_example_with_asyncio(kv_plugin: str, tmp_path: Path) -> None:
    output = run(KV / "host_async.py", directory=tmp_path, KV_PLUGIN=kv_plugin)
    assert output.startswith("put and got 100 values\n")
    assert output.endswith("its exit status is 0\n")


def test_kv_example_with_a_plugin_that_fails(tmp_path: Path) -> None:
    command = [sys.executable, str(KV / "host.py"), "false"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("the plugin failed: false: ")


def test_upgrade_example(tmp_path: Path) -> None:
    host = UPGRADE / "host.py"
    first = run(host, "40", directory=tmp_path)
    match = re.fullmatch(r"started process (\d+)\nthe total is 40\n", first)
    assert match
    second = run(host, "2", directory=tmp_path)
    assert second == f"reattached to process {match[1]}\nthe total is 42\n"
    assert run(host, "stop", directory=tmp_path).endswith("stopped\n")


def test_upgrade_example_after_the_plugins_own_end(tmp_path: Path, eventually: Any) -> None:
    host = UPGRADE / "host.py"
    first = run(host, "1", directory=tmp_path)
    pid = int(first.split()[2])
    address = json.loads((tmp_path / "plugin.json").read_text())["Addr"]["String"]
    os.kill(pid, signal.SIGTERM)  # which lets it remove its socket
    eventually(lambda: not os.path.exists(address), "the socket's end")
    second = run(host, "1", directory=tmp_path)
    assert second.startswith("starting anew: ")
    assert "process not found" in second
    assert second.endswith("the total is 1\n")
    run(host, "stop", directory=tmp_path)


@pytest.mark.parametrize("grpcio", [True, False], ids=["grpcio", "no grpcio"])
def test_greeter_example(grpcio: bool, tmp_path: Path) -> None:
    if not grpcio:
        (tmp_path / "grpc.py").write_text("raise ImportError('there is no grpcio here')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    output = run(GREETER / "host.py", "you", "", directory=tmp_path, PYTHONPATH=path)
    assert output == "hello, you\nINVALID_ARGUMENT: nobody to greet\n"


def programs(page: str) -> dict[str, str]:
    """The code blocks of a page that follow a line with a file name in backquotes."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"`(\w+\.(?:py|proto))`[^\n]*\n\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(found)


@pytest.mark.parametrize(
    ("page", "output"),
    [
        ("README.md", "hello, world\n"),
        ("docs/first-plugin.md", "b'world'\n"),
        ("docs/services.md", "hello, world\nnobody to greet\n"),
    ],
)
def test_programs_in_the_documentation(page: str, output: str, tmp_path: Path) -> None:
    for name, text in programs(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for proto in tmp_path.glob("*.proto"):
        run(
            *("-m", "grpc_tools.protoc", "-I", ".", "--python_out=.", "--grpc_python_out=."),
            proto.name,
            directory=tmp_path,
        )
    assert run("host.py", directory=tmp_path) == output


def test_links_in_the_documentation() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    pages += [KV / "README.md", GREETER / "README.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken
