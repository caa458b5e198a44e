"""What belongs to a whole process: signals, forks, the interpreter's end, and what is left behind.

Each test runs a script of tests/isolated in an interpreter of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import is_reaped

ISOLATED = Path(__file__).resolve().parents[1] / "isolated"
KIT = ISOLATED.with_name("kit")

# The bound on every script: a hang is a failure, whatever the machine.
PATIENCE = 200.0

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture
def run(peers: Any) -> Run:
    """Runs `script.py MODE` with a plugin of the kind."""

    def start(
        script: str, mode: str, kind: str = "python", **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ISOLATED / script, mode, json.dumps(peers.plugin(kind))],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **options,
        )

    return start


def output(done: subprocess.CompletedProcess[str]) -> str:
    """What the script printed. It must have succeeded without errors on stderr."""
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def with_kit() -> dict[str, str]:
    """The environment, with the modules of tests/kit."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(KIT), os.environ["PYTHONPATH"]])}


# ---- Signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["unary", "with_call", "future", "stream", "dial", "start"])
def test_ctrl_c(run: Run, mode: str) -> None:
    assert output(run("interrupts.py", mode)) == "interrupted\ncancelled\n"


WAITS = [("ask", 6), ("requests", 2), ("ready", 1), ("server", 3)]


@pytest.mark.parametrize(("mode", "waits"), WAITS)
def test_ctrl_c_in_every_wait(run: Run, mode: str, waits: int) -> None:
    assert output(run("interrupts.py", mode)) == "interrupted\n" * waits + "cancelled\n"


def test_signal_handlers_may_kill_what_they_interrupt(run: Run) -> None:
    assert output(run("interrupts.py", "killer")) == "True True\n" * 2 + "cancelled\n"


def test_signal_handlers_run_during_calls(run: Run) -> None:
    assert output(run("interrupts.py", "handler")) == "handled True CANCELLED\n"


def test_code_of_the_users_has_the_signal_mask_of_the_program(run: Run) -> None:
    """Only SIGUSR2 is blocked, as on the main thread."""
    assert output(run("masks.py", "threads", env=with_kit())) == "12 {}\n"


def test_handlers_can_end_their_children(run: Run) -> None:
    assert output(run("masks.py", "children", env=with_kit())) == "-15\n-15\n7\n"


def test_ctrl_c_that_another_thread_receives(run: Run) -> None:
    assert output(run("masks.py", "elsewhere", env=with_kit())) == "interrupted\n" * 4


# ---- Tools that watch threads --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["trace", "profile", "existing"])
def test_hooks_of_threading_see_threads_of_the_core(run: Run, mode: str) -> None:
    assert output(run("hooks.py", mode, env=with_kit())) == "seen\n"


def test_threads_of_the_core_have_names(run: Run) -> None:
    found = output(run("hooks.py", "names", env=with_kit()))
    assert found == "['pygo-worker-1', 'pygo-worker-2', 'pygo-worker-3'] True\n"


def test_threads_that_have_ended_are_forgotten(run: Run) -> None:
    assert output(run("hooks.py", "ended", env=with_kit())) == "['pygo-runner-1']\n"


# ---- Green threads -------------------------------------------------------------------------------

GREEN = {
    "calls": """\
b'unary'
b'with_call'
b'future'
OK
[b'first', b'second']
b'50000000'
b'2'
True
""",
    "given_up": """\
timeout
killed True
DEADLINE_EXCEEDED
KeyboardInterrupt
""",
    "callbacks": """\
['callback', 'credentials', 'log handler', 'on_exit', 'writer'] True
""",
    "left_alone": """\
x
""",
    "life": """\
started unix
b'x'
''
terminated True
b'late'
stopped True
""",
    "unpatched": """\
b'x'
[b'hub']
""",
}


@pytest.mark.parametrize("mode", GREEN)
def test_greenlets_run_while_another_one_waits(run: Run, mode: str) -> None:
    assert output(run("green.py", mode, env=with_kit())) == GREEN[mode]


def test_eventlet_is_refused(run: Run) -> None:
    quiet = {**with_kit(), "PYTHONWARNINGS": "ignore"}  # eventlet's, that it is deprecated
    assert output(run("green.py", "eventlet", env=quiet)) == "True\n" * 3


# ---- Processes of the host's --------------------------------------------------------------------


def test_forked_child_is_refused_everything(run: Run) -> None:
    assert output(run("forks.py", "use")) == "not refused: []\n7\n" * 3 + "'' False False\n"


def test_forked_children_that_just_end(run: Run) -> None:
    assert output(run("forks.py", "leave")) == "{0} False\n"


@pytest.mark.parametrize(
    ("method", "result"), [("fork", "True"), ("spawn", "b'x'"), ("forkserver", "b'x'")]
)
def test_multiprocessing(run: Run, method: str, result: str) -> None:
    assert output(run("forks.py", method)) == f"{result}\n0 ''\n"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("imported", "[7, 7, 7]\n"),
        ("killed", "[7, 7, 7] [7]\n4 4\n"),
        ("together", "0\n7 [7, 7]\n"),
        ("nested", "7\n"),
        ("exits", "7 ''\n"),
        ("pool", "[7, 7, 7, 7]\n"),
        ("own_fork", "b'x'\n0\n"),
    ],
)
def test_forks_of_a_parent_that_runs_nothing(run: Run, mode: str, expected: str) -> None:
    """Children may use gRPC if the parent has not used it yet, or has closed all of it."""
    assert output(run("forks.py", mode)) == expected


def test_what_keeps_forked_children_from_using_anything(run: Run) -> None:
    reasons = [(1, 1, 1), (0, 1, 1), (0, 1, 0)]
    lines = [
        f"['connections: {a}', 'servers: {b}', 'credentials: {c}']\n1\n" for a, b, c in reasons
    ]
    assert output(run("forks.py", "reasons")) == "".join(lines) + "0\n"


def test_subprocesses_during_calls(run: Run) -> None:
    assert output(run("forks.py", "programs")) == "''\n"


# ---- Descriptors --------------------------------------------------------------------------------

SCARCE = [
    *("plain", "tls", "multiplexed", "again", "multiplexed_again"),
    *("with_asyncio", "channels", "servers"),
    *("asyncio_calls", "brokers", "multiplexed_brokers", "serving"),
]


@pytest.mark.parametrize("mode", SCARCE)
def test_descriptors_that_run_out(run: Run, mode: str) -> None:
    """With any number of descriptors left, each operation works or says why it does not."""
    done = run("descriptors.py", mode)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = re.compile(r"ok|(\w+Error): .*|RpcError: (UNAVAILABLE|DEADLINE_EXCEEDED)", re.DOTALL)
    assert [said for said in found if "unexpected" in said or not expected.fullmatch(said)] == []
    assert found[0] != "ok"
    assert found[-1] == "ok"
    reasons = [said for said in found if "gRPC needs 6 descriptors" in said]
    if not mode.endswith(("brokers", "calls", "again")):  # whose gRPC runs already
        assert reasons
        assert all("ulimit -n" in said for said in reasons)


# ---- The interpreter's end ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode",
    [
        *("client", "future", "stream", "requests", "subscription", "thread", "daemons", "unused"),
        *("stuck_callback", "stuck_writer", "starting"),
    ],
)
def test_exit_with_live_clients(run: Run, eventually: Any, mode: str) -> None:
    pids = [int(line) for line in output(run("exits.py", mode)).split()]
    if mode != "starting":
        assert len(pids) == {"client": 2, "unused": 0}.get(mode, 1)
    for pid in pids:
        eventually(lambda pid=pid: is_reaped(pid), "the plugin's end")


@pytest.mark.parametrize("mode", ["server", "busy_server", "stuck_servers"])
def test_exit_with_a_live_server(run: Run, mode: str) -> None:
    assert output(run("exits.py", mode)) == ""


def test_exit_handlers_of_the_author(run: Run, eventually: Any) -> None:
    pid, exited = output(run("exits.py", "kill_at_exit")).split()
    assert exited == "True"
    eventually(lambda: is_reaped(int(pid)), "the plugin's end")


def test_running_calls_do_not_keep_a_plugin_from_its_own_end(run: Run) -> None:
    assert output(run("exits.py", "running_call")) == "0\n"


# ---- What is around a process -------------------------------------------------------------------


def test_subinterpreters_are_refused(run: Run) -> None:
    first, second, third = output(run("subinterpreter.py", "")).splitlines()
    for line in (first, second):
        assert line.startswith("ImportError: ")
        assert "subinterpreter" in line
    assert third == "main: pygo_plugin._core"


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = os.openpty()
    yield theirs
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("kind", ["python", "go"])
def test_plugins_inherit_the_terminal(run: Run, kind: str, terminal: int) -> None:
    assert output(run("terminal.py", "stdin", kind, stdin=terminal)) == "True\n"
    assert output(run("terminal.py", "stdin", kind, stdin=subprocess.DEVNULL)) == "False\n"


# ---- Leaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cycles", "calls"])
def test_nothing_grows(run: Run, socket_dir: Path, mode: str) -> None:
    found = json.loads(output(run("leaks.py", mode, "go")))
    # The first third warms up: pools, caches, and what the allocator keeps.
    for resource in ("descriptors", "children"):
        assert found[resource][2] <= found[resource][1], found
    # Pools have a thread more or less at any moment; a leak would be one in each of many rounds.
    assert found["threads"][2] <= found["threads"][1] + 3, found
    assert found["memory"][2] - found["memory"][1] < 1 << 20, found
    assert [path for path in socket_dir.rglob("*") if path.is_socket()] == []
