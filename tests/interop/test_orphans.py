"""Plugins whose host goes away without a word, and those that are meant to outlive it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended

from pygo_plugin import ConfigError, ReattachConfig

ISOLATED = Path(__file__).resolve().parents[1] / "isolated"

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("socket_dir")]

Launch = Callable[..., "tuple[subprocess.Popen[str], ReattachConfig]"]


@pytest.fixture
def launch(peers: Any) -> Iterator[Launch]:
    """Starts orphans.py in a mode with a plugin, and gives the host and where the plugin is."""
    hosts = []
    pids = []

    def start(mode: str, command: list[str]) -> tuple[subprocess.Popen[str], ReattachConfig]:
        host = subprocess.Popen(
            [sys.executable, str(ISOLATED / "orphans.py"), mode, json.dumps(command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hosts.append(host)
        assert host.stdout is not None
        config = ReattachConfig.from_json(host.stdout.readline())
        pids.append(config.pid)
        return host, config

    yield start
    for host in hosts:
        host.kill()
        host.communicate()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# ---- Dying with the host ------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["python", "go"])
@pytest.mark.parametrize("mode", ["killed", "thread_gone"])
def test_plugin_dies_with_a_host_that_is_killed(
    mode: str, plugin: str, peers: Any, launch: Launch, eventually: Any
) -> None:
    host, config = launch(mode, peers.plugin(plugin))
    assert not has_ended(config.pid)
    host.kill()
    eventually(lambda: has_ended(config.pid), "the plugin's end")
    if plugin == "python":  # which leaves in its own way, whereas Go's is killed
        eventually(lambda: not os.path.exists(config.address), "the socket's end")


def test_python_plugin_leaves_when_a_go_host_is_killed(
    peers: Any, go_host: Any, eventually: Any
) -> None:
    started = go_host.do("start", cmd=peers.plugin("python"))
    go_host.kill()
    eventually(lambda: has_ended(started["pid"]), "the plugin's end")
    eventually(lambda: not os.path.exists(started["address"]), "the socket's end")


@pytest.mark.parametrize("server", ["core", "grpcio", "aio"])
def test_python_plugin_behind_a_wrapper_leaves(
    server: str, peers: Any, go_host: Any, eventually: Any
) -> None:
    """The plugin's parent, a shell, does not end with the host."""
    command = shlex.join(peers.plugin("python", "--server", server))
    started = go_host.do("start", cmd=["/bin/sh", "-c", f"{command}; :"])
    plugin = go_host.do("environ")["pid"]
    assert plugin != started["pid"]
    go_host.kill()
    eventually(lambda: has_ended(plugin), "the plugin's end")
    eventually(lambda: not os.path.exists(started["address"]), "the socket's end")


LINGERING = """
import threading
import pygo_plugin_peer
from pygo_plugin import ServeConfig, Server

server = Server(
    ServeConfig(handshake_config=pygo_plugin_peer.HANDSHAKE, plugins=pygo_plugin_peer.plugins())
)
assert server.serve()
threading.Event().wait()
"""


def test_python_plugin_that_does_not_end_by_itself_is_ended(go_host: Any, eventually: Any) -> None:
    started = go_host.do("start", cmd=[sys.executable, "-c", LINGERING])
    go_host.kill()
    eventually(lambda: has_ended(started["pid"]), "the plugin's end")


def test_outlive_host(peers: Any, go_host: Any, make_client: Any) -> None:
    """The plugin's own option, for hosts without `detach`."""
    started = go_host.do("start", cmd=peers.plugin("python", "--outlive-host"))
    go_host.kill()
    client = make_client(
        reattach_config=ReattachConfig("grpc", "unix", started["address"], started["pid"])
    )
    assert client.ping() == ""
    client.kill()
    assert client.exited()


# ---- Outliving it -------------------------------------------------------------------------------


def log_much(client: Any) -> None:
    """Log more than a pipe holds, so that a broken or full pipe would show."""
    import probe_pb2

    _, probe = client.dispense("probe")
    lines = [probe_pb2.Line(channel=name, text=b"x" * 1000) for name in ("LOG", "STDERR", "STDOUT")]
    probe.Print(probe_pb2.PrintRequest(repeat=200, lines=lines), timeout=20)


@pytest.mark.parametrize("plugin", ["python", "go"])
@pytest.mark.parametrize("mode", ["detached_exit", "detached_killed", "detached_forgotten"])
def test_detached_plugin_goes_on(
    mode: str, plugin: str, peers: Any, launch: Launch, make_client: Any, eventually: Any
) -> None:
    host, config = launch(mode, peers.plugin(plugin))
    if mode == "detached_exit":
        assert host.wait(60) == 0
    elif mode == "detached_killed":
        host.kill()
        host.wait(60)
    client = make_client(reattach_config=config)
    log_much(client)
    log_much(client)
    assert client.ping() == ""
    assert os.getsid(config.pid) == config.pid  # no terminal's end concerns it
    client.kill()
    assert client.exited()
    eventually(lambda: has_ended(config.pid), "the plugin's end")
    if mode == "detached_forgotten":
        host.communicate(timeout=60)
        assert host.returncode == 0


def test_log_of_a_detached_plugin(peers: Any, make_client: Any, records: Any) -> None:
    client = make_client(peers.plugin("go"), detach=True)
    log_much(client)
    records.wait_for("x" * 1000)
    client.kill()
    assert client.exit_status == 0


def test_early_exit_of_a_detached_plugin_quotes_its_stderr(make_client: Any) -> None:
    client = make_client(["/bin/sh", "-c", "echo no luck >&2; exit 3"], detach=True)
    with pytest.raises(Exception, match="no luck") as caught:
        client.start()
    assert caught.value.exit_status == 3  # type: ignore[attr-defined]


def test_a_detached_plugin_does_not_detach_its_own_plugins(
    peers: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import probe_pb2

    monkeypatch.setenv("PYGO_PLUGIN_DETACHED", "1")  # as if the host were one
    client = make_client(peers.plugin("python"))
    _, probe = client.dispense("probe")
    assert (
        "PYGO_PLUGIN_DETACHED" not in probe.Environ(probe_pb2.EnvironRequest(), timeout=20).environ
    )
    client.kill()


def test_what_detach_excludes(make_client: Any) -> None:
    with pytest.raises(ConfigError, match="managed"):
        make_client(["plugin"], detach=True, managed=True).start()
    with pytest.raises(ConfigError, match="auto_mtls"):
        make_client(["plugin"], detach=True, auto_mtls=True).start()
    config = ReattachConfig("grpc", "unix", "/nowhere")
    with pytest.raises(ConfigError, match="reattaches"):
        make_client(reattach_config=config, detach=True).start()
