"""Supervisors: starting, ending and starting again, blocking."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pygo_plugin import (
    ClientConfig,
    ClosedError,
    ConfigError,
    ExitedEarlyError,
    MissingPackageError,
    PluginFailedError,
    ReattachConfig,
    StartError,
    supervise,
)
from pygo_plugin.supervise import Restart, State, Supervisor

pytestmark = pytest.mark.usefixtures("no_leftovers")

DEADLINE = 60.0
AT_ONCE = Restart(max_restarts=None, delay=0.0)


@pytest.fixture
def command(peers: Any) -> list[str]:
    found: list[str] = peers.plugin("go")
    return found


@pytest.fixture
def make(command: list[str], handshake: Any, plugins: Any) -> Iterator[Callable[..., Any]]:
    """Makes supervisors of the Go peer, and closes them after the test."""
    made: list[Supervisor] = []

    def supervisor(cmd: Any = None, **options: Any) -> Supervisor:
        options = {"handshake_config": handshake, "plugins": plugins, "restart": AT_ONCE, **options}
        found = Supervisor(command if cmd is None else cmd, **options)
        made.append(found)
        return found

    yield supervisor
    for one in made:
        one.close()


def current(plugin: Supervisor) -> Any:
    return plugin._wait_current(threading.TIMEOUT_MAX)


def kinds(events: Any) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_life(make: Any) -> None:
    plugin = make()
    events = plugin.events()
    assert plugin.state is State.NEW
    with plugin:
        assert plugin.state is State.HEALTHY
        first = current(plugin)
        assert (first.number, first.client.pid) == (1, plugin.pid)
        os.kill(plugin.pid, signal.SIGKILL)
        assert plugin.wait_for("backing_off", DEADLINE)
        second = current(plugin)
        assert second.number == 2
        assert not first.enter()
        assert first.failure.exit_status == -signal.SIGKILL
        assert f"pid={second.client.pid} incarnation=2" in repr(plugin)
    assert plugin.state is State.CLOSED
    assert second.client.exited()
    assert kinds(events) == [
        *("Started", "Healthy", "Exited", "Restarting", "Started", "Healthy", "Exited")
    ]


def test_restart_is_not_counted(make: Any) -> None:
    with make(restart=Restart("never")) as plugin:
        for number in (1, 2, 3):
            assert current(plugin).number == number
            plugin.restart()
        assert plugin.state is State.HEALTHY


def test_what_another_start_cannot_cure(make: Any) -> None:
    plugin = make("/nowhere")
    with pytest.raises(PluginFailedError, match="another start would fail as well") as caught:
        plugin.start()
    assert type(caught.value.__cause__) is StartError
    assert caught.value.__cause__.errno == 2
    assert caught.value.attempts == 1
    assert plugin.state is State.FAILED
    with pytest.raises(PluginFailedError):
        plugin._wait_current(None)


def test_out_of_budget(make: Any) -> None:
    script = "import sys; sys.stderr.write('no luck'); sys.exit(3)"
    plugin = make([sys.executable, "-c", script], restart=Restart(max_restarts=2, delay=0.0))
    with pytest.raises(PluginFailedError, match="2 restarts within 60 s") as caught:
        plugin.start()
    assert isinstance(caught.value.__cause__, ExitedEarlyError)
    assert (caught.value.exit_status, caught.value.attempts) == (3, 3)
    assert caught.value.stderr == "no luck"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reattach_config": ReattachConfig("grpc", "unix", "/x")}, "reattach_config"),
        ({"managed": True}, "cleanup_clients"),
        ({"detach": True}, "outlives its host"),
        ({"max_calls": 0}, "max_calls must be greater than 0"),
        ({"restart": 5}, "must be a Restart"),
        ({"health": True}, "must be a Health"),
        ({"retry": ["Get"]}, "retry must be a dict"),
        ({"watch": True, "runner": lambda: None, "cmd": False}, "a runner has none"),
        ({"env": {"A": "1"}, "cmd": ClientConfig(cmd="x")}, "options next to a ClientConfig"),
        ({"kill_group": True, "runner": lambda: None, "cmd": False}, "kill_group does not go"),
    ],
)
def test_wrong_options(make: Any, options: dict[str, Any], message: str) -> None:
    cmd = options.pop("cmd", None)
    if isinstance(cmd, ClientConfig):
        options = {"handshake_config": None, "plugins": None, **options}
    construct = Supervisor if cmd is False else make
    arguments = () if cmd is False else (cmd,)
    with pytest.raises(ConfigError, match=message):
        construct(*arguments, **options)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Restart, {"when": "sometimes"}, "Restart.when"),
        (Restart, {"max_restarts": -1}, "must not be negative"),
        (Restart, {"factor": 0.5}, "at least 1"),
        (Restart, {"jitter": 2}, "from 0 to 1"),
        (Restart, {"delay": 3.0, "max_delay": 2.0}, "more than max_delay"),
        (supervise.Health, {"interval": 0}, "greater than 0"),
        (supervise.Health, {"failures": 0}, "greater than 0"),
    ],
)
def test_wrong_values(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)


@pytest.mark.parametrize("watch", ["/nowhere/file", True])
def test_what_cannot_be_watched(make: Any, watch: Any) -> None:
    plugin = make("/nowhere/plugin", watch=watch)
    with pytest.raises(ConfigError, match="watch"):
        plugin.start()


def test_watching_needs_a_package(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    plugin = make(watch="/tmp")
    with pytest.raises(MissingPackageError, match=r"pygo-plugin\[watch\]"):
        plugin.start()


def test_closed(make: Any) -> None:
    plugin = make()
    plugin.close()
    plugin.close()
    with pytest.raises(ClosedError):
        plugin.start()
    with pytest.raises(ClosedError):
        plugin._wait_current(None)
    assert list(plugin.events()) == []
