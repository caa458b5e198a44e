"""What supervisors of both kinds do about plugins that end, hang, and are replaced."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import moody_plugin
import probe_pb2 as pb
import pytest
from processes import has_ended
from supervised import DEADLINE, KINDS, Moods

from pygo_plugin import ClosedError, PluginFailedError, StartError
from pygo_plugin.supervise import Health, Restart

pytestmark = pytest.mark.usefixtures("no_leftovers")

PEERS = Path(__file__).resolve().parents[1] / "peers"
AT_ONCE = Restart(max_restarts=None, delay=0.0)
OFTEN = Health(interval=0.05, timeout=DEADLINE)


@pytest.fixture
def moods(tmp_path: Path) -> Moods:
    return Moods(tmp_path / "moods")


@pytest.fixture
def command(moods: Moods) -> list[str]:
    return [sys.executable, str(PEERS / "moody_plugin.py"), str(moods.path)]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, command: list[str]) -> Iterator[Callable[..., Any]]:
    """Makes started supervisors of either kind, and closes them after the test."""
    made = []

    def supervisor(cmd: Any = None, *, start: bool = True, **options: Any) -> Any:
        options = {
            "handshake_config": moody_plugin.HANDSHAKE,
            "plugins": moody_plugin.plugins(),
            "restart": AT_ONCE,
            "kill_timeout": 0,
            **options,
        }
        plugin = KINDS[request.param](command if cmd is None else cmd, **options)
        made.append(plugin)
        if start:
            plugin.start()
        return plugin

    yield supervisor
    for plugin in made:
        plugin.finish()


class Seen:
    """An `on_event` that keeps events, and waits for them."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, kind: str, count: int = 1) -> Any:
        """The `count`-th event of the kind."""

        def found() -> list[Any]:
            return [event for event in self.events if type(event).__name__ == kind]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, DEADLINE), self.kinds()
        return found()[count - 1]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture
def seen() -> Seen:
    return Seen()


ECHO = pb.EchoRequest()


def test_an_end_is_told_and_mended(make: Any, seen: Seen) -> None:
    plugin = make(on_event=seen)
    first = plugin.current()
    assert plugin.echo(ECHO).payload == str(first.client.pid).encode()
    os.kill(first.client.pid, signal.SIGKILL)
    exited = seen.wait("Exited")
    assert (exited.number, exited.exit_status, exited.expected) == (1, -9, False)
    assert seen.wait("Restarting").error.exit_status == -9
    seen.wait("Healthy", 2)
    assert plugin.echo(ECHO).payload == str(plugin.current().client.pid).encode()
    assert "killed by signal 9 (SIGKILL)" in str(first.failure)
    plugin.close()  # which waits for the last event
    assert seen.kinds() == [
        *("Started", "Healthy", "Exited", "Restarting", "Started", "Healthy", "Exited")
    ]


@pytest.mark.parametrize(
    ("mood", "cause"),
    [("exit 3", "status 3 before its handshake"), ("silent", "handshake"), ("late 4", "status 4")],
)
def test_ends_at_each_stage_of_the_start(
    make: Any, moods: Moods, seen: Seen, mood: str, cause: str
) -> None:
    moods.come(mood)
    timeout = 2 if mood == "silent" else None
    plugin = make(start=False, on_event=seen, start_timeout=timeout)
    plugin.start()
    assert cause in str(seen.wait("Restarting").error)
    assert plugin.current().number == 2


def test_a_crash_loop_is_given_up_until_restart(make: Any, moods: Moods, seen: Seen) -> None:
    moods.come(*["exit 3"] * 3)
    restart = Restart(max_restarts=2, delay=0.0)
    plugin = make(start=False, on_event=seen, restart=restart)
    with pytest.raises(PluginFailedError, match="2 restarts within 60 s") as caught:
        plugin.start()
    assert (caught.value.exit_status, caught.value.attempts) == (3, 3)
    with pytest.raises(PluginFailedError):
        plugin.current()
    assert seen.wait("GaveUp").error.exit_status == 3
    plugin.restart()
    assert plugin.current().number == 4


def test_a_plugin_that_is_never_healthy(make: Any, moods: Moods, seen: Seen) -> None:
    moods.come("sick")
    health = Health(interval=0.05, startup=0.2)
    plugin = make(start=False, on_event=seen, health=health)
    plugin.start()
    assert plugin.current().number == 2
    assert "not become healthy within 0.2 s" in str(seen.wait("Restarting").error)


def test_a_hang_in_health_is_found(make: Any, seen: Seen, freeze: Any) -> None:
    plugin = make(on_event=seen, health=Health(interval=0.05, timeout=0.5, failures=2))
    first = plugin.current().client.pid
    freeze(first)
    assert seen.wait("Restarting").error
    assert plugin.current().client.pid != first
    assert has_ended(first)
    unhealthy = [event for event in seen.events if type(event).__name__ == "Unhealthy"]
    assert [event.killed for event in unhealthy][-2:] == [False, True]


def test_reload_replaces_without_a_gap(make: Any, seen: Seen) -> None:
    plugin = make(on_event=seen)
    first = plugin.current()
    plugin.reload()
    second = plugin.current()
    assert (first.number, second.number) == (1, 2)
    assert seen.wait("Reloaded").reason == "reload"
    assert seen.wait("Exited").expected
    assert has_ended(first.client.pid)
    assert "Restarting" not in seen.kinds()


@pytest.mark.parametrize("mood", ["exit 3", "sick"])
def test_a_bad_replacement_leaves_the_old_one_serving(
    make: Any, moods: Moods, seen: Seen, mood: str
) -> None:
    plugin = make(on_event=seen, health=Health(interval=0.05, timeout=DEADLINE, startup=0.2))
    first = plugin.current()
    moods.come(mood)
    with pytest.raises(Exception, match=r"status 3|not become healthy"):
        plugin.reload()
    assert plugin.current() is first
    assert plugin.echo(ECHO).payload == str(first.client.pid).encode()
    assert seen.wait("NotReplaced").reason == "reload"
    plugin.reload()
    assert plugin.current() is not first


def test_reload_with_another_executable(make: Any, peers: Any) -> None:
    plugin = make()
    with pytest.raises(StartError, match="there is no file"):
        plugin.reload("/nowhere/plugin")
    assert plugin.current().number == 1
    plugin.reload(peers.plugin("go"))
    go = plugin.current().client.pid
    assert "peers/plugin" in os.readlink(f"/proc/{go}/exe")
    os.kill(go, signal.SIGKILL)
    assert plugin.wait_for("starting")
    assert "peers/plugin" in os.readlink(f"/proc/{plugin.current().client.pid}/exe")


def test_recycling_by_calls(make: Any, seen: Seen) -> None:
    plugin = make(on_event=seen, max_calls=5)
    pids = set()
    while len(seen.events) < 12:
        pids.add(plugin.echo(ECHO).payload)
    assert len(pids) > 1
    assert seen.wait("Reloaded").reason == "max_calls"
    assert "Restarting" not in seen.kinds()


@pytest.mark.parametrize("limit", [{"max_age": 0.1}, {"max_rss": 1}])
def test_recycling_by_age_and_memory(make: Any, seen: Seen, limit: dict[str, Any]) -> None:
    plugin = make(on_event=seen, **limit)
    assert seen.wait("Reloaded").reason == next(iter(limit))
    assert plugin.current().number >= 2
    assert seen.wait("Exited").expected


def test_calls_are_drained(make: Any, seen: Seen) -> None:
    plugin = make(on_event=seen)
    first = plugin.current()
    assert first.enter()
    plugin.reload()
    assert not first.enter()
    assert plugin.call(first, "Echo", ECHO).payload == str(first.client.pid).encode()
    assert "Exited" not in seen.kinds()
    first.leave()
    assert seen.wait("Exited").number == 1


def test_a_hang_in_a_drain_has_a_bound(make: Any, moods: Moods, seen: Seen) -> None:
    moods.come("stubborn")
    plugin = make(on_event=seen, drain_timeout=0.1)
    first = plugin.current()
    assert first.enter()
    plugin.reload()
    assert seen.wait("Exited").number == 1
    assert has_ended(first.client.pid)
    first.leave()


def test_close_while_a_start_hangs(make: Any, moods: Moods) -> None:
    moods.come("silent")
    plugin = make(start=False)
    errors: queue.Queue[Exception] = queue.Queue()

    def start() -> None:
        try:
            plugin.start()
        except ClosedError as error:
            errors.put(error)

    threading.Thread(target=start).start()
    assert plugin.wait_for("starting")
    plugin.close()
    assert "has been closed" in str(errors.get(timeout=DEADLINE))


def test_an_event_closes_it(make: Any) -> None:
    closed = threading.Event()

    def blocking(event: Any) -> None:
        if type(event).__name__ == "Healthy":
            made.it.close()
            closed.set()

    async def asynchronous(event: Any) -> None:
        if type(event).__name__ == "Healthy":
            await made.it.close()
            closed.set()

    made = make(start=False, on_event=lambda event: chosen(event))
    chosen = asynchronous if hasattr(made, "loop") else blocking
    with contextlib.suppress(ClosedError):
        made.start()
    assert closed.wait(DEADLINE)


def test_events_end_with_the_supervisor(make: Any) -> None:
    plugin = make()
    events = plugin.events()
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.extend(events))
    reader.start()
    plugin.reload()
    plugin.close()
    reader.join(DEADLINE)
    assert not reader.is_alive()


def install(path: Path, command: list[str]) -> str:
    """Puts a script that runs the command at the path, as an installer does: by one rename."""
    new = path.with_suffix(".new")
    new.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    new.chmod(0o755)
    new.rename(path)
    return str(path)


@pytest.mark.parametrize("how", ["executable", "file", "directory"])
def test_watching(
    make: Any, command: list[str], seen: Seen, tmp_path: Path, how: str, eventually: Any
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    cmd = install(watched / "plugin", command)
    watch = {"executable": True, "file": watched / "plugin", "directory": [watched]}[how]
    plugin = make(cmd, on_event=seen, watch=watch)
    # The watcher's thread may not watch yet.
    eventually(lambda: install(watched / "plugin", command) and plugin.current().number > 1)
    assert seen.wait("Reloaded").reason == "reload"


def test_a_bad_executable_is_installed_and_then_a_good_one(
    make: Any, command: list[str], seen: Seen, tmp_path: Path, eventually: Any
) -> None:
    path = tmp_path / "plugin"
    plugin = make(install(path, command), on_event=seen, watch=True)
    eventually(lambda: install(path, ["exit 3;"]) and "NotReplaced" in seen.kinds())
    assert plugin.current().number == 1
    install(path, command)
    seen.wait("Reloaded")


def test_netrpc(make: Any, command: list[str], seen: Seen, freeze: Any) -> None:
    plugin = make(
        [*command, "--netrpc"],
        plugins=moody_plugin.plugins("netrpc"),
        allowed_protocols=["netrpc"],
        on_event=seen,
        health=Health(interval=0.05, timeout=0.5, failures=2),
    )
    freeze(plugin.current().client.pid)
    seen.wait("Healthy", 2)
    plugin.reload()
    assert plugin.current().number >= 3
