"""What plugins print once they serve reaches the writers of their host (protocol 7)."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from processes import most_memory

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

DEADLINE = 60.0  # seconds

PLUGINS = {
    "go": ("go",),
    "python": ("python",),
    "python aio": ("python", "--server", "aio"),
    "python grpcio": ("python", "--server", "grpcio"),
}


class Sink:
    """A binary writer that keeps what it is given, and can be waited for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.calls = 0
        self._changed = threading.Condition()

    def write(self, data: bytes) -> int:
        with self._changed:
            self.data += data
            self.calls += 1
            self._changed.notify_all()
        return len(data)

    def wait_for(self, text: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.data, DEADLINE), bytes(self.data)


def say(channel: str, text: bytes, repeat: int = 1, raw: bool = False) -> Any:
    """A request for Probe.Print."""
    import probe_pb2

    line = probe_pb2.Line(channel=channel, text=text, raw=raw)
    return probe_pb2.PrintRequest(repeat=repeat, lines=[line])


@pytest.fixture(params=PLUGINS)
def command(request: pytest.FixtureRequest, peers: Any) -> list[str]:
    command: list[str] = peers.plugin(*PLUGINS[request.param])
    return command


def end(client: Any, complete: Callable[[], bool], eventually: Any) -> None:
    """Kill a client and check its output, of which a Go plugin may drop the end."""
    if client.name == "plugin":
        eventually(complete, "the output of a Go plugin")
    client.kill()
    assert complete()


def started(make_client: Any, command: list[str], **options: Any) -> tuple[Any, Any]:
    client = make_client(command, **options)
    _, probe = client.dispense("probe")
    return client, probe


# ---- Python hosts -------------------------------------------------------------------------------


def test_each_descriptor_has_its_writer(command: list[str], make_client: Any) -> None:
    out, err = Sink(), Sink()
    client, probe = started(make_client, command, sync_stdout=out, sync_stderr=err)
    probe.Print(say("STDOUT", b"to stdout\n"), timeout=DEADLINE)
    probe.Print(say("STDERR", b"to stderr\n"), timeout=DEADLINE)
    out.wait_for(b"to stdout\n")  # at once, not only at the end
    err.wait_for(b"to stderr\n")
    client.kill()
    assert (bytes(out.data), bytes(err.data)) == (b"to stdout\n", b"to stderr\n")


def test_text_and_binary_files(command: list[str], make_client: Any, eventually: Any) -> None:
    text, binary = io.StringIO(), io.BytesIO()
    client, probe = started(make_client, command, sync_stdout=text, sync_stderr=binary)
    for half in ("ü\n".encode()[:1], "ü\n".encode()[1:], b"\xff\n"):
        probe.Print(say("STDOUT", half), timeout=DEADLINE)
        probe.Print(say("STDERR", half), timeout=DEADLINE)
    expected = ("ü\n\N{REPLACEMENT CHARACTER}\n", "ü\n".encode() + b"\xff\n")
    end(client, lambda: (text.getvalue(), binary.getvalue()) == expected, eventually)


def test_descriptors_and_unbuffered_files(
    command: list[str], make_client: Any, tmp_path: Path, eventually: Any
) -> None:
    path, other = tmp_path / "out", tmp_path / "err"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with open(other, "wb", buffering=0) as unbuffered:
        client, probe = started(
            make_client, command, sync_stdout=descriptor, sync_stderr=unbuffered
        )
        probe.Print(say("STDOUT", b"to a descriptor\n"), timeout=DEADLINE)
        probe.Print(say("STDERR", b"to a file\n"), timeout=DEADLINE)
        end(client, lambda: bool(path.read_bytes() and other.read_bytes()), eventually)
    os.close(descriptor)
    assert path.read_bytes() == b"to a descriptor\n"
    assert other.read_bytes() == b"to a file\n"


def test_one_writer_for_both(command: list[str], make_client: Any, eventually: Any) -> None:
    both = Sink()
    client, probe = started(make_client, command, sync_stdout=both, sync_stderr=both)
    probe.Print(say("STDOUT", b"one\n"), timeout=DEADLINE)
    both.wait_for(b"one\n")
    probe.Print(say("STDERR", b"two\n"), timeout=DEADLINE)
    end(client, lambda: bytes(both.data) == b"one\ntwo\n", eventually)


class Counter:
    """Counts bytes, and remembers how many came at once. Waits while `gate` is not set."""

    def __init__(self) -> None:
        self.total = self.most = 0
        self.gate = threading.Event()
        self.gate.set()

    def write(self, data: bytes) -> None:
        assert self.gate.wait(DEADLINE)
        self.total += len(data)
        self.most = max(self.most, len(data))


MEGABYTES = 100


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "discarded"])
def test_much_output_neither_hangs_nor_grows_the_host(
    command: list[str], make_client: Any, eventually: Any, taken: bool
) -> None:
    counter = Counter()
    options = {"sync_stdout": counter} if taken else {}
    client, probe = started(make_client, command, **options)
    before = most_memory()
    line = b"x" * (64 * 1024 - 1) + b"\n"
    for _ in range(MEGABYTES):
        probe.Print(say("STDOUT", line, repeat=16), timeout=DEADLINE)
    if taken and client.name == "plugin":  # of Go, which drops at its exit what it still holds
        eventually(lambda: counter.total == MEGABYTES << 20)
    client.kill()
    after = most_memory()
    assert client.exit_status == 0
    assert after - before < 48
    if taken:
        assert counter.most <= 4 << 20
        assert counter.total == MEGABYTES << 20


def test_a_writer_that_waits_stops_the_plugin_and_no_one_else(
    command: list[str], make_client: Any, eventually: Any
) -> None:
    counter = Counter()
    counter.gate.clear()
    client, probe = started(make_client, command, sync_stdout=counter)
    line = b"x" * (64 * 1024 - 1) + b"\n"
    printing = probe.Print.future(say("STDOUT", line, repeat=1024), timeout=DEADLINE)
    for _ in range(100):
        assert client.ping() == ""
    assert not printing.done()
    counter.gate.set()
    printing.result(DEADLINE)
    client.kill()
    assert counter.most <= 4 << 20


class Failing:
    def __init__(self) -> None:
        self.calls = 0

    def write(self, data: bytes) -> None:
        self.calls += 1
        raise OSError("the disk is full")


def test_a_writer_that_raises_is_reported_once(
    command: list[str], make_client: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    out, err = Failing(), Sink()
    client, probe = started(make_client, command, sync_stdout=out, sync_stderr=err)
    for _ in range(4):
        probe.Print(say("STDOUT", b"x" * 65536, repeat=16), timeout=DEADLINE)
        probe.Print(say("STDERR", b"and on\n"), timeout=DEADLINE)
    end(client, lambda: bytes(err.data) == b"and on\n" * 4, eventually)
    assert out.calls == 1
    assert [str(report.exc_value) for report in reports] == ["the disk is full"]


@pytest.mark.parametrize("kind", ["grpcio", "bad"])
def test_plugins_without_the_service_are_fine(kind: str, peers: Any, make_client: Any) -> None:
    out = Sink()
    command = peers.bad("close-stdio") if kind == "bad" else peers.plugin(kind)
    client = make_client(command, sync_stdout=out)
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0
    assert not out.data


def test_two_hosts_share_the_output(command: list[str], make_client: Any, eventually: Any) -> None:
    """Each message goes to one of the hosts, and none is lost."""
    sinks = Sink(), Sink()
    first, probe = started(make_client, command, sync_stdout=sinks[0])
    second = make_client(reattach_config=first.reattach_config(), sync_stdout=sinks[1])
    assert second.ping() == ""
    probe.Print(say("STDOUT", b"x" * 1000 + b"\n", repeat=100), timeout=DEADLINE)
    eventually(lambda: sum(len(sink.data) for sink in sinks) == 100 * 1001, "all of it")
    second.kill()
    first.kill()


@pytest.mark.parametrize("value", ["a name", object(), -1])
def test_what_is_no_writer_is_refused(value: Any, make_client: Any) -> None:
    with pytest.raises(ValueError, match=r"ClientConfig\.sync_stdout must"):
        make_client("plugin", sync_stdout=value)
    with pytest.raises(ValueError, match=r"ClientConfig\.sync_stderr must"):
        make_client("plugin", sync_stderr=value)


# ---- Python plugins, and what they print with ---------------------------------------------------

PRINTING = Path(__file__).resolve().parents[1] / "peers" / "printing_plugin.py"


@pytest.fixture(params=["core", "aio", "grpcio"])
def printing(
    request: pytest.FixtureRequest, make_client: Any
) -> Callable[[], tuple[Any, Callable[[str], bytes], Sink, Sink]]:
    """Gives a client of the printing plugin, what has it print, and its two writers."""
    import kv_pb2

    def launch() -> tuple[Any, Callable[[str], bytes], Sink, Sink]:
        out, err = Sink(), Sink()
        command = [sys.executable, str(PRINTING), request.param]
        client = make_client(command, sync_stdout=out, sync_stderr=err)
        _, kv = client.dispense("kv")

        def act(key: str) -> bytes:
            value: bytes = kv.Get(kv_pb2.GetRequest(key=key), timeout=DEADLINE).value
            return value

        return client, act, out, err

    return launch


def test_lines_arrive_when_they_are_complete(printing: Any) -> None:
    client, act, out, _ = printing()
    act("print")
    out.wait_for(b"printed\n")
    act("partial")
    client.kill()
    assert bytes(out.data) == b"printed\nno newline"
    assert client.exit_status == 0


def test_descriptors_libraries_and_children_count(printing: Any) -> None:
    client, act, out, err = printing()
    for key in ("write", "library", "child"):
        act(key)
    client.kill()
    assert bytes(out.data) == b"written\nout of a library\nout of a child\n"
    assert bytes(err.data) == b"err of a child\n"


def test_logging_goes_to_the_log_and_print_does_not(printing: Any, records: Any) -> None:
    client, act, out, err = printing()
    for key in ("log", "print", "warn"):
        act(key)
    client.kill()
    assert [r.getMessage() for r in records.records] == ["logged"]
    assert bytes(out.data) == b"printed\n"
    assert bytes(err.data) == b"to stderr\n"


def test_much_is_not_lost_at_the_end(printing: Any) -> None:
    client, act, out, _ = printing()
    act("big")
    client.kill()
    assert len(out.data) == 200_000
    assert client.exit_status == 0


def test_a_child_that_keeps_the_pipes_does_not_hold_up_the_end(printing: Any) -> None:
    client, act, out, _ = printing()
    pid = int(act("grandchild"))
    try:
        act("print")
        client.kill()
        assert client.exit_status == 0  # so that it ended by itself
        assert bytes(out.data) == b"printed\n"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_signal_that_ends_the_plugin(printing: Any, eventually: Any) -> None:
    client, act, out, _ = printing()
    with contextlib.suppress(grpc.RpcError):
        act("terminate")
    eventually(client.exited, "the end")
    client.kill()
    assert client.exit_status == -signal.SIGTERM
    assert bytes(out.data) == b"before the signal\n"


def test_what_is_printed_after_the_end_of_the_server(printing: Any) -> None:
    """It is lost, and does no harm."""
    client, act, out, _ = printing()
    act("late")
    client.kill()
    assert client.exit_status == 0
    assert not out.data


# ---- Crashes: the log is where they are looked for -----------------------------------------------


def test_an_exception_in_a_thread_is_in_the_log(printing: Any, records: Any) -> None:
    client, act, _, err = printing()
    act("thread")
    record = records.wait_for("a thread has failed")
    assert record.levelname == "ERROR"
    assert "Traceback (most recent call last)" in record.getMessage()
    client.kill()
    assert not err.data


@pytest.mark.parametrize("printing", ["core", "grpcio"], indirect=True)
def test_an_exception_of_the_main_program_is_in_the_log(
    printing: Any, records: Any, eventually: Any
) -> None:
    client, act, out, _ = printing()
    act("print")
    act("fail")
    records.wait_for("the main program has failed")
    eventually(client.exited, "the end")
    client.kill()
    assert client.exit_status == 1
    assert bytes(out.data) == b"printed\n"


@pytest.mark.parametrize(
    ("key", "number", "words"),
    [
        ("segfault", signal.SIGSEGV, "Segmentation fault"),
        ("abort", signal.SIGABRT, "abort of a library"),
    ],
)
def test_the_last_output_of_a_crash_is_in_the_log(
    printing: Any, records: Any, eventually: Any, key: str, number: signal.Signals, words: str
) -> None:
    client, act, _, _ = printing()
    with pytest.raises(grpc.RpcError):
        act(key)
    eventually(client.exited, "the end")
    client.kill()
    assert client.exit_status == -number
    assert any(words in r.getMessage() for r in records.records)
