"""What all Python tests share: where the peers are, clients that get killed, and a Go host.

Everything that has to be built first is in build/, where scripts/test puts it. A test whose peer is
missing fails and says so: a skipped test would look like a passed one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "build" / "proto"
GO_PEERS = ROOT / "build" / "peers"
PEERS = ROOT / "tests" / "peers"
KIT = ROOT / "tests" / "kit"  # modules for tests

DEADLINE = 60.0  # seconds for anything that happens soon on an idle machine

# For this process, and for the plugins that it launches.
sys.path[:0] = [str(PROTOS), str(PEERS), str(KIT)]
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(PROTOS), str(PEERS), os.environ.get("PYTHONPATH", "")])
)

# nohup and background jobs of a shell have signals ignored, which plugins would inherit.
USUAL = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}
for number, handler in USUAL.items():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keeps what collecting has left out of later garbage collections, of which tests need many."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """A worker of pytest-xdist ends if a report's text, such as what a test logged, is no UTF-8."""
    return printable((yield))


def printable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {name: printable(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(printable, data))
    return data


def missing(path: Path) -> None:
    pytest.fail(f"{path.relative_to(ROOT)} is missing: run scripts/test --quick", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _protos() -> None:
    if not (PROTOS / "kv_pb2.py").exists():
        missing(PROTOS)


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The first true value of the condition; fails after the deadline."""
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come true within {DEADLINE} s")
        pause.wait(0.01)
    return value


def wait_until_none(left: Callable[[], set[Any]], what: str) -> None:
    """Waits until nothing is left; fails after the deadline, and says what still is."""
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while remaining := left():
        if time.monotonic() > end:
            pytest.fail(f"{what} left after {DEADLINE} s: {sorted(remaining)}")
        pause.wait(0.01)
        gc.collect()  # another thread may have had the last reference to a cycle until now


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return wait_until


@pytest.fixture
def freeze() -> Callable[[int], None]:
    """Stops a process with SIGSTOP, which has to reach every thread: until then, one may answer."""

    def stopped(pid: int) -> bool:
        stats = [stat.read_text() for stat in Path("/proc", str(pid), "task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: stopped(pid), "the stop of all its threads")

    return stop


# ---- Peers --------------------------------------------------------------------------------------


class Peers:
    """Command lines of the peers, as lists."""

    def plugin(self, kind: str, *arguments: str) -> list[str]:
        """A plugin that serves kv and probe: "python", "go" or "grpcio". Or the "impostor"."""
        if kind == "go":
            return self._go("plugin", *(a.replace("--", "-", 1) for a in arguments))
        scripts = {
            "python": "pygo_plugin_peer.py",
            "grpcio": "grpcio_plugin.py",
            "impostor": "impostor_plugin.py",
        }
        return [sys.executable, str(PEERS / scripts[kind]), *arguments]

    def netrpc_plugin(self, kind: str, *arguments: str) -> list[str]:
        """A plugin that speaks net/rpc in version 1: "python" or "go"."""
        if kind == "go":
            return self.plugin("go", "--netrpc", "1", *arguments)
        return [sys.executable, str(PEERS / "netrpc_peer.py"), *arguments]

    def bad(self, mode: str, *arguments: str) -> list[str]:
        """A plugin that misbehaves."""
        return self._go("bad", "-mode", mode, *arguments)

    def bad_netrpc(self, mode: str, at: str) -> list[str]:
        """A plugin that misbehaves over net/rpc; calls of the `at` "control" or "plugin"."""
        return self._go("badrpc", "-mode", mode, "-at", at)

    def host(self) -> list[str]:
        """The Go host, which takes JSON requests."""
        return self._go("host")

    def interop(self, *arguments: str) -> list[str]:
        """grpc-go's side of gRPC's standard interop cases."""
        return self._go("interop", *arguments)

    def upstream(self, name: str) -> str:
        """A program of go-plugin's own examples."""
        return self._go(f"go-plugin/{name}")[0]

    def gob(self) -> list[str]:
        """Go's encoding/gob, which takes JSON requests."""
        return self._go("gob")

    def netrpc(self, *arguments: str) -> list[str]:
        """Go's net/rpc without go-plugin."""
        return self._go("netrpc", *arguments)

    def _go(self, name: str, *arguments: str) -> list[str]:
        path = GO_PEERS / name
        if not path.exists():
            missing(path)
        return [str(path), *arguments]


@pytest.fixture(scope="session")
def peers() -> Peers:
    return Peers()


@pytest.fixture
def handshake() -> Any:
    import pygo_plugin_peer

    return pygo_plugin_peer.HANDSHAKE


@pytest.fixture
def plugins() -> Any:
    import pygo_plugin_peer

    return pygo_plugin_peer.plugins()


@pytest.fixture
def make_client(handshake: Any, plugins: Any) -> Iterator[Callable[..., Any]]:
    """Makes clients with the suite's handshake and plugins, and kills them after the test."""
    from pygo_plugin import Client

    clients = []

    def make(cmd: Any = None, **options: Any) -> Any:
        if "versioned_plugins" not in options:
            options.setdefault("plugins", plugins)
        options.setdefault("handshake_config", handshake)
        client = Client(cmd, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.kill()
    clients.clear()


@pytest.fixture
def socket_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory of the plugins that the test launches, empty at first.

    Not tmp_path: the path of a socket may have no more than 107 bytes.
    """
    path = tempfile.mkdtemp(prefix="pygo")
    monkeypatch.setenv("TMPDIR", path)
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def go_gob(peers: Peers) -> Iterator[Any]:
    """Go's encoding/gob; see kit/go_gob.py."""
    from go_gob import GoGob

    judge = GoGob(peers.gob())
    yield judge
    judge.close()


# ---- Certificates -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority() -> Any:
    """Signs the two pairs that follow; of kit/certificates.py."""
    from certificates import Authority

    return Authority("the tests' CA")


@pytest.fixture(scope="session")
def server_pair(authority: Any) -> Any:
    return authority.issue("server", "localhost")


@pytest.fixture(scope="session")
def client_pair(authority: Any) -> Any:
    return authority.issue("client", "client.test")


# ---- Logs ---------------------------------------------------------------------------------------


class Records(logging.Handler):
    """Keeps records, and waits for them."""

    def __init__(self) -> None:
        super().__init__(0)
        self.records: list[logging.LogRecord] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def wait_for(self, text: str) -> logging.LogRecord:
        """The first record whose message contains the text."""

        def find() -> logging.LogRecord | None:
            return next((r for r in self.records if text in r.getMessage()), None)

        with self._changed:
            found = self._changed.wait_for(find, DEADLINE)
        if found is None:
            pytest.fail(f"no record with {text!r} within {DEADLINE} s, only {self.messages()}")
        return found


@pytest.fixture
def records() -> Iterator[Records]:
    """All records of plugins, from TRACE up."""
    logger = logging.getLogger("pygo_plugin.plugin")
    handler = Records()
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(5)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


# ---- What a test may leave behind ---------------------------------------------------------------


def children() -> set[int]:
    """Processes whose parent is this one, zombies included."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_text()
                # The name, in parentheses, may hold anything: parse behind it.
                if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                    found.add(int(entry))
    return found


def descriptors() -> set[tuple[str, str]]:
    """Open descriptors and what they are, but for what gRPC keeps per process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith(("anon_inode:[event", "/proc/")):
                found.add((name, target))
    return found


FAILED = pytest.StashKey[bool]()  # whether a test's function has failed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def no_leftovers(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[None]:
    """Fails the test if a process, a descriptor or a socket file is left after it.

    For `pytest.mark.usefixtures`, which comes before a test's arguments and so is the last to end.
    After a failure it says nothing: what the failed function had is kept with its traceback.
    """
    children_before, descriptors_before = children(), descriptors()
    yield
    if request.node.stash.get(FAILED, False):
        return
    gc.collect()  # exceptions that the test has caught may hold its client
    wait_until_none(lambda: children() - children_before, "child processes")
    wait_until_none(lambda: descriptors() - descriptors_before, "descriptors")
    wait_until_none(lambda: {p for p in socket_dir.rglob("*") if p.is_socket()}, "sockets")


# ---- The Go host --------------------------------------------------------------------------------


class GoHost:
    """A host written in Go, driven by requests; see tests/peers/go/cmd/host."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._replies: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """The reply, whatever it is."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        self._process.stdin.flush()
        line = self._replies.get(timeout=2 * DEADLINE)
        assert line, f"the Go host died during {op}"
        reply: dict[str, Any] = json.loads(line)
        return reply

    def do(self, op: str, **request: Any) -> dict[str, Any]:
        """The reply of an operation that has to succeed."""
        reply = self.ask(op, **request)
        assert reply["ok"], f"{op}: {reply}"
        return reply

    def kill(self) -> None:
        """SIGKILL, as an accident would be."""
        self._process.kill()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()


@pytest.fixture
def go_host(peers: Peers) -> Iterator[GoHost]:
    host = GoHost(peers.host())
    yield host
    host.close()
