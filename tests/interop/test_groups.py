"""kill_group: what a plugin's process has started ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_runner import Own
from processes import has_ended

from pygo_plugin import ConfigError, ConfigTypeError, ReattachConfig, StartError, StartTimeoutError

ISOLATED = Path(__file__).resolve().parents[1] / "isolated"
MARK = b"PYGO_PLUGIN_GROUP="

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("socket_dir")]

# What a wrapper does besides starting the plugin, and has to be gone as well. Each writes its pid.
HELPERS = {
    "child": "sleep 1000 & echo $! > {pid}",
    "grandchild": "(sleep 1000 & echo $! > {pid}; sleep 1000) &",
    "orphan": "(sleep 1000 & echo $! > {pid})",
    "session": "setsid sh -c 'echo $$ > {pid}; exec sleep 1000' &",
    "environment": "env -i /bin/sleep 1000 & echo $! > {pid}",
}


@pytest.fixture
def helper(tmp_path: Path, eventually: Any) -> Any:
    """Waits until the helper has written its pid, and returns it."""

    def read() -> int:
        path = tmp_path / "pid"
        return int(eventually(lambda: path.exists() and path.read_text().strip(), "the helper"))

    return read


@pytest.fixture
def wrapped(peers: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """A shell that starts a plugin (which it stays the parent of) and a helper."""

    def make(plugin: str, helper: str = ":") -> list[str]:
        command = shlex.join(peers.plugin(plugin))
        helper = HELPERS.get(helper, helper).format(pid=tmp_path / "pid")
        return ["/bin/sh", "-c", f"{helper}\n{command}\n:"]

    return make


def plugin_pid(client: Any) -> int:
    import probe_pb2

    _, probe = client.dispense("probe")
    return int(probe.Environ(probe_pb2.EnvironRequest(), timeout=20).pid)


@pytest.mark.parametrize("helper_kind", HELPERS)
def test_helpers_end_with_a_plugin_that_exits(
    helper_kind: str, wrapped: Any, make_client: Any, helper: Any
) -> None:
    client = make_client(wrapped("python", helper_kind), kill_group=True)
    client.start()
    pid = helper()
    assert not has_ended(pid)
    client.kill()
    assert client.exit_status == 0
    assert has_ended(pid)


@pytest.mark.parametrize(
    ("plugin", "helper_kind"), [("python", "child"), *(("go", kind) for kind in HELPERS)]
)
def test_plugin_behind_a_wrapper_ends_when_it_does_not_exit_by_itself(
    helper_kind: str, plugin: str, wrapped: Any, make_client: Any, helper: Any, freeze: Any
) -> None:
    client = make_client(wrapped(plugin, helper_kind), kill_group=True)
    client.start()
    pids = [plugin_pid(client), helper()]
    assert client.pid not in pids
    freeze(pids[0])
    client.kill()
    assert client.exit_status == -signal.SIGKILL
    assert [pid for pid in pids if not has_ended(pid)] == []


def test_without_it_a_wrapped_plugin_survives(wrapped: Any, make_client: Any, freeze: Any) -> None:
    """Without kill_group the plugin outlives its wrapper."""
    client = make_client(wrapped("python"))
    client.start()
    pid = plugin_pid(client)
    freeze(pid)
    client.kill()
    try:
        assert not has_ended(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_wrapper_that_is_gone_already(
    wrapped: Any, make_client: Any, eventually: Any, freeze: Any
) -> None:
    client = make_client(wrapped("go"), kill_group=True)
    client.start()
    pid = plugin_pid(client)
    os.kill(client.pid, signal.SIGKILL)
    eventually(client.exited, "the wrapper's end")
    assert not has_ended(pid)
    client.kill()
    assert has_ended(pid)


def test_a_plugin_that_is_forgotten(wrapped: Any, handshake: Any, plugins: Any) -> None:
    from pygo_plugin import Client

    client = Client(wrapped("go"), handshake_config=handshake, plugins=plugins, kill_group=True)
    client.start()
    pid = plugin_pid(client)
    with pytest.warns(ResourceWarning, match="was never killed"):
        del client
    assert has_ended(pid)


# ---- Starts that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "options", "error"),
    [
        ("sleep 1000", {"start_timeout": 0.3}, StartTimeoutError),
        (": ; exit 3", {}, StartError),
        ("echo hello; sleep 1000", {}, StartError),
        ("echo '1|1|unix|/nowhere|grpc'; sleep 1000", {"auto_mtls": True}, Exception),
        ("echo '1|9|unix|/nowhere|grpc'; sleep 1000", {}, StartError),
    ],
    ids=["timeout", "exit", "rubbish", "tls", "version"],
)
def test_nothing_survives_a_start_that_fails(
    script: str, options: Any, error: Any, make_client: Any, helper: Any, tmp_path: Path
) -> None:
    first = HELPERS["child"].format(pid=tmp_path / "pid")
    client = make_client(["/bin/sh", "-c", f"{first}; {script}"], kill_group=True, **options)
    with pytest.raises(error):
        client.start()
    assert has_ended(helper())


def test_a_kill_during_the_start(make_client: Any, helper: Any, tmp_path: Path) -> None:
    import threading

    first = HELPERS["session"].format(pid=tmp_path / "pid")
    client = make_client(["/bin/sh", "-c", f"{first} sleep 1000"], kill_group=True)
    killer = threading.Thread(target=lambda: (helper(), client.kill()))
    killer.start()
    with pytest.raises(Exception, match="killed while it started"):
        client.start()
    killer.join()
    assert has_ended(helper())


def test_asyncio(wrapped: Any, handshake: Any, plugins: Any, helper: Any, freeze: Any) -> None:
    from pygo_plugin import aio

    async def main() -> int:
        client = aio.Client(
            wrapped("python", "session"),
            handshake_config=handshake,
            plugins=plugins,
            kill_group=True,
        )
        async with client:
            assert await client.ping() == ""
            return int(helper())

    assert has_ended(asyncio.run(main()))


# ---- The host's end ------------------------------------------------------------------------------


@pytest.fixture
def host(wrapped: Any) -> Any:
    """Starts grouped.py with a plugin behind a wrapper, and gives it when the plugin runs."""
    hosts = []

    def start(how: str, plugin: str, helper: str) -> subprocess.Popen[str]:
        arguments = [how, json.dumps(wrapped(plugin, helper))]
        process = subprocess.Popen(
            [sys.executable, str(ISOLATED / "grouped.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hosts.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in hosts:
        process.kill()
        process.communicate()


def members() -> set[int]:
    """All processes with the mark of any group."""

    def marked(pid: str) -> bool:
        try:
            return MARK in Path(f"/proc/{pid}/environ").read_bytes() and not has_ended(int(pid))
        except OSError:
            return False

    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and marked(entry)}


@pytest.mark.parametrize("plugin", ["python", "go"])
@pytest.mark.parametrize("how", ["killed", "exec"])
def test_nothing_survives_a_host_that_is_killed(
    how: str, plugin: str, host: Any, helper: Any, eventually: Any
) -> None:
    """The group is ended after some seconds, in which a Python plugin removes its socket."""
    before = members()
    process = host(how, plugin, "session")
    ours = members() - before
    assert helper() in ours
    if how == "exec":
        process.stdin.write("x")
        process.stdin.flush()
    else:
        process.kill()
    eventually(lambda: not members() & ours, "the end of the group")


def test_nothing_survives_a_host_that_exits(host: Any, helper: Any) -> None:
    process = host("exit", "python", "session")
    assert process.wait(60) == 0
    assert has_ended(helper())


def test_the_guard_ends_with_its_host(host: Any, eventually: Any) -> None:
    def guards() -> list[str]:
        return [pid for pid, command in commands() if b"/guard.py" in command and ours in command]

    process = host("exit later", "python", ":")
    ours = b"\0%d\0" % process.pid
    eventually(guards, "the guard")
    process.communicate("x", timeout=60)
    assert guards() == []


def commands() -> list[tuple[str, bytes]]:
    """The pid and the command line of each process."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.append((entry, Path(f"/proc/{entry}/cmdline").read_bytes()))
    return found


# ---- What it leaves alone ------------------------------------------------------------------------


def test_the_process_group_stays_that_of_the_host(wrapped: Any, make_client: Any) -> None:
    """The terminal's Ctrl-C thus reaches both the host and the plugin."""
    client = make_client(wrapped("python"), kill_group=True)
    client.start()
    assert os.getpgid(client.pid) == os.getpgid(plugin_pid(client)) == os.getpgrp()
    client.kill()


WRAPPER = """
import signal, subprocess, sys

signal.signal(signal.SIGINT, lambda *_: open(sys.argv[1], "w").close())
sys.exit(subprocess.call(sys.argv[2:]))
"""


def test_ctrl_c_reaches_the_plugin(peers: Any, tmp_path: Path, eventually: Any) -> None:
    interrupted = tmp_path / "interrupted"
    command = [sys.executable, "-c", WRAPPER, str(interrupted), *peers.plugin("python")]
    terminal, end = os.openpty()
    with subprocess.Popen(
        [sys.executable, str(ISOLATED / "grouped.py"), "terminal", json.dumps(command)],
        stdin=end,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(end)
        assert process.stdout is not None
        assert process.stdout.readline()
        os.write(terminal, b"\x03")
        assert process.stdout.readline() == "interrupted True\n"  # the plugin swallows it
        eventually(interrupted.exists, "the wrapper's interrupt")
        assert process.wait(60) == 0
    os.close(terminal)


def test_other_plugins_go_on(wrapped: Any, make_client: Any) -> None:
    clients = [make_client(wrapped("go"), kill_group=True) for _ in range(3)]
    for client in clients:
        client.start()
    clients[1].kill()
    assert [client.ping() == "" for client in clients] == [True, False, True]


def test_a_detached_one(wrapped: Any, make_client: Any, helper: Any, freeze: Any) -> None:
    client = make_client(wrapped("go", "child"), kill_group=True, detach=True)
    client.start()
    pids = [plugin_pid(client), helper()]
    freeze(pids[0])
    client.kill()
    assert all(map(has_ended, pids))


NESTED = """
import sys
sys.path[:0] = {path!r}
import pygo_plugin_peer
from pygo_plugin import Client, ServeConfig, serve

options = dict(handshake_config=pygo_plugin_peer.HANDSHAKE, plugins=pygo_plugin_peer.plugins())
inner = Client({command!r}, detach=True, **options)
inner.start()
with open({out!r}, "w") as file:
    file.write(str(inner.pid))
serve(ServeConfig(**options))
"""


def test_detached_plugins_of_a_plugin(
    peers: Any, make_client: Any, tmp_path: Path, helper: Any
) -> None:
    script = tmp_path / "nested.py"
    out = str(tmp_path / "pid")
    script.write_text(NESTED.format(path=sys.path, command=peers.plugin("go"), out=out))
    client = make_client([sys.executable, str(script)], kill_group=True)
    client.start()
    pid = helper()
    try:
        os.kill(client.pid, signal.SIGSTOP)
        client.kill()
        assert client.exit_status == -signal.SIGKILL
        assert not has_ended(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_what_it_excludes(make_client: Any) -> None:
    config = ReattachConfig("grpc", "unix", "/nowhere")
    with pytest.raises(ConfigError, match="kill_group does not go with a reattach_config"):
        make_client(reattach_config=config, kill_group=True).start()

    with pytest.raises(ConfigError, match="kill_group does not go with a runner"):
        make_client(runner=Own(["plugin"]), kill_group=True).start()
    with pytest.raises(ConfigTypeError, match=r"ClientConfig\.kill_group must be True or False"):
        make_client(["plugin"], kill_group=1)
