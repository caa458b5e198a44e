"""What is left in the directories for temporary files when host or plugin end: nothing."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import broker_plugin
import pytest
from broker_plugin import Test
from brokered import HOW, OPTIONS, TIMEOUT, call_back, echo
from own_runner import Own

from pygo_plugin import Client

HOST = str(Path(__file__).resolve().parents[1] / "isolated" / "broker_host.py")

pytestmark = pytest.mark.usefixtures("no_leftovers")

each_way = pytest.mark.parametrize("how", HOW)


def use(client: Client) -> None:
    """A connection that has ended, and one in each direction that goes on."""
    broker, test = client.dispense("test")
    call_back(broker, test)
    server = broker.accept_and_serve(broker.next_id(), echo)
    assert test.CallBack(b"%d" % server.id, timeout=TIMEOUT) == b"host: %d" % server.id
    stub = broker.stub(int(test.Serve(b"", timeout=TIMEOUT)), Test, timeout=TIMEOUT)
    assert stub.Echo(b"x", timeout=TIMEOUT) == b"plugin: x"


def client_of(how: str, *command: str) -> Client:
    command = command or (sys.executable, broker_plugin.__file__)
    return Client(list(command), **HOW[how], **OPTIONS)


@each_way
def test_kill(how: str, socket_dir: Path) -> None:
    with client_of(how) as client:
        use(client)
    assert list(socket_dir.iterdir()) == []


@pytest.mark.go
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("plugin", ["python", "go"])
@each_way
def test_a_signal_to_the_plugin(
    plugin: str, how: str, number: signal.Signals, peers: Any, socket_dir: Path, eventually: Any
) -> None:
    command = [] if plugin == "python" else peers.plugin("go")
    with client_of(how, *command) as client:
        use(client)
        os.kill(client.pid, number)
        eventually(client.exited, "the news of the plugin's end")
    assert list(socket_dir.iterdir()) == []


def test_a_plugin_on_tcp(socket_dir: Path, eventually: Any) -> None:
    """A TCP address does not say where the private directory is."""
    command = [sys.executable, broker_plugin.__file__, "--network", "tcp"]
    with client_of("multiplexed", *command) as client:
        use(client)
        assert len(list(socket_dir.iterdir())) == 2
        os.kill(client.pid, signal.SIGKILL)
        eventually(client.exited, "the news of the plugin's end")
    assert list(socket_dir.iterdir()) == []


@pytest.mark.go
@pytest.mark.parametrize("plugin", ["python", "go"])
def test_a_directory_that_is_given(
    plugin: str, peers: Any, socket_dir: Path, eventually: Any
) -> None:
    """Sockets that the plugin makes in the directory are removed with it."""
    command = [sys.executable, broker_plugin.__file__] if plugin == "python" else peers.plugin("go")
    options = {**HOW["multiplexed"], **OPTIONS, "unix_socket_dir": str(socket_dir)}
    with Client(command, **options) as client:
        use(client)
        os.kill(client.pid, signal.SIGKILL)
        eventually(client.exited, "the news of the plugin's end")
    assert list(socket_dir.iterdir()) == []


def test_a_runner(socket_dir: Path, eventually: Any) -> None:
    runner = Own([sys.executable, broker_plugin.__file__])
    with Client(runner=runner, **HOW["multiplexed"], **OPTIONS) as client:
        use(client)
        runner.kill()
        eventually(client.exited, "the news of the plugin's end")
    del client
    gc.collect()
    eventually(lambda: list(socket_dir.iterdir()) == [], "an end of the files")


@each_way
@pytest.mark.filterwarnings("ignore:.*was never killed:ResourceWarning")
def test_a_client_that_is_forgotten(how: str, socket_dir: Path, eventually: Any) -> None:
    client = client_of(how)
    client.start()
    use(client)
    del client
    gc.collect()
    eventually(lambda: list(socket_dir.iterdir()) == [], "an end of the files")


@each_way
def test_a_plugin_that_crashes_before_its_handshake(how: str, socket_dir: Path) -> None:
    client = client_of(how, sys.executable, "-c", "import os; os.abort()")
    assert client.ping() != ""
    client.kill()
    assert list(socket_dir.iterdir()) == []


@pytest.fixture
def kill_host(socket_dir: Path, eventually: Any) -> Iterator[Callable[..., Path]]:
    """Kills a host of broker_host.py, and expects the end of its plugin and of all its files.

    Returns: where the host's own are.
    """
    ours, theirs = socket_dir / "h", socket_dir / "p"  # short: they are parts of sockets' paths
    ours.mkdir()
    theirs.mkdir()

    def kill(how: str, *arguments: str) -> Path:
        host = subprocess.Popen(
            [sys.executable, HOST, json.dumps(HOW[how]), str(theirs), *arguments],
            env={**os.environ, "TMPDIR": str(ours)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert host.stdout is not None
            pid = int(host.stdout.readline())
            assert list(theirs.iterdir()) != []
        finally:
            host.kill()
            host.communicate()
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the plugin's end")
        assert list(theirs.iterdir()) == []
        return ours

    yield kill
    shutil.rmtree(ours)  # what the host leaves behind


@each_way
@pytest.mark.parametrize("when", ["idle", "calling back"])
def test_a_host_that_is_killed(when: str, how: str, kill_host: Any) -> None:
    """The plugin removes its own sockets."""
    kill_host(how, when)


def test_a_host_that_is_killed_and_a_plugin_that_does_not_leave(kill_host: Any) -> None:
    kill_host("multiplexed", "idle", "--linger")


def test_the_next_host_after_one_that_was_killed(kill_host: Any) -> None:
    """The next host removes what the killed one left, and none of its own sockets."""
    left = kill_host("multiplexed", "idle")
    before = set(left.iterdir())
    assert len(before) == 1
    assert kill_host("multiplexed", "idle") == left
    after = set(left.iterdir())
    assert len(after) == 1
    assert not before & after
