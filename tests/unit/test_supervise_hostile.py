"""Supervisors under attack: kills, forks, a lack of threads and processes, and the exit."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended

from pygo_plugin import Client, ForkedError, PluginFailedError, StartError
from pygo_plugin._supervise import driver
from pygo_plugin.supervise import Health, Restart, State, Supervisor

pytestmark = pytest.mark.usefixtures("no_leftovers")

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
AT_ONCE = Restart(max_restarts=None, delay=0.0)


@pytest.fixture
def make(peers: Any, handshake: Any, plugins: Any) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def supervisor(cmd: Any = None, **options: Any) -> Supervisor:
        options = {"handshake_config": handshake, "plugins": plugins, "restart": AT_ONCE, **options}
        made.append(Supervisor(peers.plugin("go") if cmd is None else cmd, **options))
        return made[-1]

    yield supervisor
    for plugin in made:
        plugin.close()


def current(plugin: Supervisor, after: int = 0) -> Any:
    """The incarnation that takes calls, later than that number."""
    end = time.monotonic() + DEADLINE
    while (found := plugin._wait_current(end)).number <= after:
        assert plugin.wait_for("starting", DEADLINE) or True
    return found


def ours() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name.startswith("pygo-supervise")
    ]


def test_killed_many_times(make: Any, eventually: Any) -> None:
    kills = 200
    with make(kill_timeout=0) as plugin:
        events = plugin.events()
        for number in range(1, kills + 1):
            if number > 1:
                next(event for event in events if type(event).__name__ == "Healthy")
            pid = plugin._incarnations[number].client.pid
            assert pid > 0
            os.kill(pid, signal.SIGKILL)
        assert len(ours()) < 20
    eventually(lambda: not ours(), "the end of the supervisors' threads")


def test_eight_threads_and_kills(make: Any) -> None:
    """Calls fail with the plugin's end or wait for the next process, and none hangs."""
    over = threading.Event()
    counts = []

    def use(plugin: Supervisor) -> None:
        done = 0
        while not over.is_set():
            incarnation = plugin._wait_current(time.monotonic() + DEADLINE)
            if incarnation.enter():
                incarnation.client.ping(DEADLINE)
                incarnation.leave()
                done += 1
        counts.append(done)

    with make() as plugin:
        threads = [threading.Thread(target=use, args=(plugin,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        number = 0
        for _ in range(20):
            found = current(plugin, number)
            number = found.number
            os.kill(found.client.pid, signal.SIGKILL)
        current(plugin, number)
        over.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert len(counts) == 8
    assert all(counts)


def test_the_system_has_no_more_processes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [errno.EAGAIN, errno.ENOMEM]
    start = Client.start

    def failing(client: Client[Any]) -> Any:
        if failures:
            error = StartError("kv: cannot create a process")
            error.errno = failures.pop()
            raise error
        return start(client)

    monkeypatch.setattr(Client, "start", failing)
    with make() as plugin:
        assert current(plugin).number == 3
    assert not failures


def test_the_system_has_no_more_threads(
    make: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    start, refused = threading.Thread.start, []
    plugin = make()
    plugin.start()

    def failing(thread: threading.Thread) -> None:
        if thread.name.startswith("pygo-supervise") and len(refused) < 5:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    eventually(lambda: not driver._idle, "the end of all workers")
    monkeypatch.setattr(threading.Thread, "start", failing)
    os.kill(plugin.pid, signal.SIGKILL)
    assert current(plugin, 1).number == 2
    assert refused


def test_a_forked_child_leaves_the_plugin_alone(make: Any) -> None:
    with make() as plugin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = "nothing was raised"
            try:
                plugin.close()
                plugin.start()
            except ForkedError as error:
                text = str(error)
            except BaseException as error:
                text = repr(error)
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            assert "belongs to the parent" in file.read()
        assert os.waitpid(child, 0)[1] == 0
        assert plugin.state is State.HEALTHY
        os.kill(plugin.pid, signal.SIGKILL)
        assert current(plugin, 1).number == 2


def test_the_executable_is_replaced_while_it_starts(
    make: Any, peers: Any, tmp_path: Path, eventually: Any
) -> None:
    plugin_program = peers.plugin("go")[0]
    path, new, gate = tmp_path / "plugin", tmp_path / "new", tmp_path / "gate"

    def write(target: Path, wait: str) -> None:
        target.write_text(f"#!/bin/sh\n{wait}\nexec {plugin_program}\n")
        target.chmod(0o755)

    write(path, f"touch {tmp_path}/begun; while [ ! -e {gate} ]; do sleep 0.01; done")
    plugin = make(str(path))
    starting = threading.Thread(target=plugin.start)
    starting.start()
    eventually((tmp_path / "begun").exists)
    write(new, "")
    new.rename(path)
    reloading = threading.Thread(target=plugin.reload)
    reloading.start()
    eventually(lambda: plugin._policy._again is not None)
    gate.touch()
    starting.join(DEADLINE)
    reloading.join(DEADLINE)
    assert current(plugin).number == 2


def test_ctrl_c_interrupts_a_wait(make: Any) -> None:
    plugin = make([sys.executable, "-c", "import time; time.sleep(1000)"], kill_timeout=0)
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        plugin.start()
    plugin.close()


def test_a_signal_handler_closes_it(make: Any) -> None:
    plugin = make([sys.executable, "-c", "import time; time.sleep(1000)"], kill_timeout=0)
    before = signal.signal(signal.SIGUSR1, lambda *_: plugin.close())
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        with pytest.raises(Exception, match="has been closed"):
            plugin.start()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert plugin.state is State.CLOSED


def test_one_hung_plugin_does_not_delay_others(make: Any, freeze: Any) -> None:
    health = Health(interval=0.05, timeout=DEADLINE)
    hung, well = make(health=health, kill_timeout=0), make()
    hung.start()
    well.start()
    freeze(hung.pid)
    os.kill(well.pid, signal.SIGKILL)
    assert current(well, 1).number == 2


def test_a_hundred_take_few_threads(make: Any, eventually: Any) -> None:
    supervisors = [make() for _ in range(20)]
    starting = [threading.Thread(target=one.start) for one in supervisors]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join(DEADLINE)
    eventually(lambda: len(ours()) <= 2, "the end of idle workers")
    assert all(one.state is State.HEALTHY for one in supervisors)


EXITS = {
    "serving": "plugin.start()",
    "crash loop": "in_thread(plugin.start); time.sleep(0.3)",
    "waiting": "plugin.start(); os.kill(plugin.pid, 9); in_thread(plugin._wait_current, None)",
    "forked": "plugin.start()\nif os.fork() == 0: sys.exit(0)\nos.wait()",
}


@pytest.mark.parametrize(
    ("kind", "what"),
    # The tasks of a supervisor for asyncio end with the loop.
    [("aio.Supervisor", "serving"), *(("Supervisor", what) for what in EXITS)],
)
def test_the_interpreter_exits(peers: Any, what: str, kind: str) -> None:
    """Without close(): nothing hangs, and the plugin ends, too."""
    cmd = [sys.executable, "-c", "raise SystemExit(3)"] if what == "crash loop" else ["X"]
    action = EXITS[what]
    if kind == "aio.Supervisor":
        action = "import asyncio; asyncio.run(plugin.start())"
    script = f"""
import contextlib, os, sys, threading, time
from pygo_plugin import Supervisor, aio, HandshakeConfig, Plugin
from pygo_plugin.supervise import Restart
plugin = {kind}(
    {cmd!r} if {what == "crash loop"} else {peers.plugin("go")!r},
    handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
    plugins={{"kv": Plugin()}},
    restart=Restart(max_restarts=None, delay=0.0),
    kill_timeout=0,
)
def in_thread(function, *arguments):
    def run():
        with contextlib.suppress(Exception):
            function(*arguments)
    threading.Thread(target=run, daemon=True).start()
{action}
print(plugin.pid, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    pid = int(done.stdout.split()[0])
    assert pid < 0 or has_ended(pid)


def test_forgotten(make: Any, peers: Any, handshake: Any, plugins: Any, eventually: Any) -> None:
    plugin = Supervisor(peers.plugin("go"), handshake_config=handshake, plugins=plugins)
    held = [plugin]
    del plugin
    held[0].start()
    pid = held[0].pid
    eventually(lambda: len(ours()) <= 1, "the end of workers, which may hold it still")
    with pytest.warns(ResourceWarning, match="was never (closed|killed)"):
        held.clear() or gc.collect()
    eventually(lambda: (gc.collect(), has_ended(pid))[1])  # the warnings hold them in cycles


def test_given_up_while_others_wait(make: Any) -> None:
    plugin = make(restart=Restart("never"))
    plugin.start()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            plugin._wait_current(time.monotonic() + DEADLINE)
            plugin.wait_for("failed", DEADLINE)
            plugin._wait_current(time.monotonic() + DEADLINE)
        except PluginFailedError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    os.kill(plugin.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(DEADLINE)
    assert len(errors) == 4
    assert len({id(error) for error in errors}) == 4, "each caller gets an error of its own"


def test_gevent_has_patched_the_locks(peers: Any) -> None:
    script = f"""
from gevent import monkey; monkey.patch_all()
import os
from pygo_plugin import HandshakeConfig, Plugin, Restart, Supervisor
with Supervisor(
    {peers.plugin("go")!r},
    handshake_config=HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo"),
    plugins={{"kv": Plugin()}},
    restart=Restart(delay=0.0),
) as plugin:
    events = plugin.events()
    os.kill(plugin.pid, 9)
    print(next(event.number for event in events if type(event).__name__ == "Healthy"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert done.stdout == "2\n"
