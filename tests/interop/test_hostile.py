"""Plugins that misbehave: the host says what was wrong, goes on, and nothing is left behind."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import most_memory

from pygo_plugin import (
    ExitedEarlyError,
    HandshakeError,
    StartError,
    StartTimeoutError,
    VersionError,
)

pytestmark = [pytest.mark.go, pytest.mark.usefixtures("no_leftovers")]

SHORT = 0.5  # seconds, where the plugin will never answer
DEADLINE = 60.0  # seconds, where it will


# ---- Before the handshake -----------------------------------------------------------------------


def test_exit(peers: Any, make_client: Any, records: Any) -> None:
    client = make_client(peers.bad("exit", "-status", "3", "-stderr", "cannot open the database\n"))
    with pytest.raises(ExitedEarlyError, match="cannot open the database") as caught:
        client.start()
    assert str(caught.value).startswith("bad")
    assert caught.value.exit_status == 3
    assert caught.value.stderr.strip() == "cannot open the database"
    assert client.exited()
    assert client.exit_status == 3
    records.wait_for("cannot open the database")


def test_exit_with_status_zero_is_too_early_as_well(peers: Any, make_client: Any) -> None:
    with pytest.raises(ExitedEarlyError) as caught:
        make_client(peers.bad("exit")).start()
    assert caught.value.exit_status == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_signal(peers: Any, make_client: Any, number: signal.Signals) -> None:
    with pytest.raises(ExitedEarlyError, match=str(int(number))) as caught:
        make_client(peers.bad("signal", "-signal", str(int(number)))).start()
    assert caught.value.exit_status == -number


@pytest.mark.parametrize(
    "arguments", [["silent"], ["nonewline"], ["floodstderr"]], ids=lambda value: value[0]
)
def test_no_line_in_time(peers: Any, make_client: Any, arguments: list[str]) -> None:
    client = make_client(peers.bad(*arguments), start_timeout=SHORT)
    with pytest.raises(StartTimeoutError, match=r"^bad.*0\.5"):
        client.start()
    assert client.exited()


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "",
        "1|1|unix",
        "1|one|unix|/nowhere/pygo|grpc",
        "1|1|udp|/nowhere/pygo|grpc",
        "1|1|tcp|no port|grpc",
        "1|1|unix|/nowhere/pygo|smoke-signals",
    ],
)
def test_line_that_is_no_handshake(peers: Any, make_client: Any, line: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        make_client(peers.bad("line", "-line", line)).start()
    assert line in str(caught.value)
    assert caught.value.line.rstrip(b"\n") == line.encode()


@pytest.mark.parametrize("line", ["1|1|unix|/nowhere/pygo", "1|1|unix|/nowhere/pygo|netrpc"])
def test_protocol_that_is_not_allowed(peers: Any, make_client: Any, line: str) -> None:
    with pytest.raises(
        HandshakeError, match=r"^bad: the plugin speaks net/rpc, .* GRPCServer"
    ) as caught:
        make_client(peers.bad("line", "-line", line)).start()
    assert "skip_output" not in str(caught.value)


def test_other_core_protocol(peers: Any, make_client: Any) -> None:
    with pytest.raises(HandshakeError, match=r"incompatible core API version.*2.*1"):
        make_client(peers.bad("wrongcore")).start()


def test_other_version(peers: Any, make_client: Any) -> None:
    command = peers.bad("line", "-line", "1|7|unix|/nowhere/pygo|grpc")
    with pytest.raises(VersionError, match=r"incompatible API version.*7.*1") as caught:
        make_client(command).start()
    assert caught.value.plugin_version == 7
    assert list(caught.value.host_versions) == [1]


def test_an_address_without_a_listener(peers: Any, make_client: Any) -> None:
    client = make_client(peers.bad("line", "-line", "1|1|unix|/nowhere/pygo|grpc"))
    assert client.ping(timeout=2) != ""


@pytest.mark.parametrize("mode", ["longline", "binary"])
def test_rubbish(peers: Any, make_client: Any, mode: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        make_client(peers.bad(mode)).start()
    assert len(str(caught.value)) < 4096
    assert len(caught.value.line) > 0


def test_closed_stdout(peers: Any, make_client: Any) -> None:
    with pytest.raises(StartError, match="stdout"):
        make_client(peers.bad("close-stdout")).start()


def test_slow_line(peers: Any, make_client: Any) -> None:
    assert make_client(peers.bad("slowline", "-interval", "5ms")).ping() == ""


# ---- After the handshake ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["close-stdio"], ["floodstdout-after-handshake"], ["floodstderr", "-serve"]],
    ids=lambda value: value[0],
)
def test_odd_output_does_no_harm(peers: Any, make_client: Any, arguments: list[str]) -> None:
    client = make_client(peers.bad(*arguments))
    for _ in range(20):
        assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0


@pytest.mark.parametrize(
    "mode", ["ignore-shutdown", "hang-shutdown", "drop-on-shutdown-and-survive"]
)
def test_stubborn_plugins_are_killed(peers: Any, make_client: Any, mode: str) -> None:
    client = make_client(peers.bad(mode))
    assert client.ping() == ""
    client.kill()
    assert client.exited()
    assert client.exit_status == -signal.SIGKILL


def test_dropped_connection_is_a_graceful_end(peers: Any, make_client: Any) -> None:
    client = make_client(peers.bad("drop-on-shutdown", "-status", "6"))
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 6


# ---- Pipes that outlive the plugin --------------------------------------------------------------


@pytest.fixture
def orphan_log() -> Iterator[io.BytesIO]:
    """Takes the plugin's stderr, where the orphan's process id is, and ends it after the test."""
    log = io.BytesIO()
    yield log
    for pid in re.findall(rb"orphan pid (\d+)", log.getvalue()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def test_early_exit_with_an_orphan(peers: Any, make_client: Any, orphan_log: io.BytesIO) -> None:
    client = make_client(peers.bad("orphan-pipe", "-status", "4"), stderr=orphan_log)
    with pytest.raises(ExitedEarlyError, match="orphan pid") as caught:
        client.start()
    assert caught.value.exit_status == 4
    client.kill()


def test_kill_does_not_wait_for_an_orphan(
    peers: Any, make_client: Any, orphan_log: io.BytesIO, eventually: Any
) -> None:
    client = make_client(peers.bad("orphan-pipe", "-serve"), stderr=orphan_log)
    client.start()
    eventually(client.exited, "exited()")
    client.kill()
    assert client.exit_status == 0
    assert b"orphan pid" in orphan_log.getvalue()


# ---- The end, at each point of a life -----------------------------------------------------------


@pytest.mark.parametrize("mode", ["exit-after-line", "exit-on-connect"])
def test_exit_after_the_handshake(peers: Any, make_client: Any, eventually: Any, mode: str) -> None:
    client = make_client(peers.bad(mode, "-status", "6"))
    client.start()
    # It may still serve for a moment.
    eventually(lambda: client.ping(timeout=DEADLINE) != "", "a ping that fails")
    eventually(client.exited, "exited()")
    client.kill()
    assert client.exit_status == 6


def test_exit_in_the_middle_of_a_call(peers: Any, make_client: Any, eventually: Any) -> None:
    import grpc
    import probe_pb2

    client = make_client(peers.plugin("go"))
    _, probe = client.dispense("probe")
    with pytest.raises(grpc.RpcError):
        probe.Exit(probe_pb2.ExitRequest(status=7), timeout=DEADLINE)
    assert client.exited()
    client.kill()
    assert client.exit_status == 7


@pytest.mark.parametrize("plugin", ["bad", "python", "go"])
def test_a_stopped_plugin(peers: Any, make_client: Any, freeze: Any, plugin: str) -> None:
    """A stopped plugin does not answer Shutdown, and its pipes stay open."""
    command = peers.bad("serve") if plugin == "bad" else peers.plugin(plugin)
    client = make_client(command, sync_stdout=io.BytesIO())
    assert client.ping() == ""
    freeze(client.pid)
    assert client.ping(timeout=SHORT) != ""
    assert not client.exited()
    client.kill()
    assert client.exit_status == -signal.SIGKILL
    remove_sockets()


def remove_sockets() -> None:
    """Removes sockets that a killed plugin left and its host must not remove."""
    for path in Path(os.environ["TMPDIR"]).rglob("plugin*"):
        if path.is_socket():
            path.unlink()


def test_stopped_before_the_handshake(peers: Any, make_client: Any) -> None:
    client = make_client(["sh", "-c", "kill -STOP $$"], start_timeout=SHORT)
    with pytest.raises(StartTimeoutError):
        client.start()
    assert client.exited()


# ---- Addresses ----------------------------------------------------------------------------------


def test_a_socket_behind_a_symlink(peers: Any, make_client: Any) -> None:
    client = make_client(peers.bad("symlink"))
    assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_no_socket_is_left_alone(
    peers: Any, make_client: Any, tmp_path: Path, kind: str
) -> None:
    """The plugin chooses the address, so the host removes only sockets."""
    path = tmp_path / "precious"
    if kind == "file":
        path.write_text("data")
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "target").write_text("data")
        path.symlink_to(tmp_path / "target")
    client = make_client(peers.bad("line", "-line", f"1|1|unix|{path}|grpc"))
    client.start()
    assert client.ping(timeout=DEADLINE) != ""
    client.kill()
    assert os.path.lexists(path)
    assert kind != "link" or path.read_text() == "data"


# ---- Too much -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [True, False], ids=["logged", "not logged"])
def test_a_line_of_a_gigabyte(peers: Any, make_client: Any, wanted: bool) -> None:
    logger = logging.getLogger("test_hostile.endless")
    logger.propagate = False
    logger.setLevel(logging.DEBUG if wanted else logging.ERROR)
    counter = Counting()
    logger.addHandler(counter)
    before = most_memory()
    client = make_client(peers.bad("endless-log", "-serve", "-mib", "1024"), logger=logger)
    for _ in range(10):
        assert client.ping() == ""
    client.kill()
    logger.removeHandler(counter)
    assert most_memory() - before < 64
    assert counter.longest <= 64 << 10


class Counting(logging.Handler):
    longest = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.longest = max(self.longest, len(record.getMessage()))


def test_an_endless_line_instead_of_a_handshake(peers: Any, make_client: Any) -> None:
    before = most_memory()
    with pytest.raises(HandshakeError):
        make_client(peers.bad("longline", "-mib", "512")).start()
    assert most_memory() - before < 64


def test_a_slow_line_does_not_extend_the_time(peers: Any, make_client: Any) -> None:
    client = make_client(peers.bad("slowline", "-interval", "100ms"), start_timeout=SHORT)
    with pytest.raises(StartTimeoutError):
        client.start()
    remove_directories()


def remove_directories() -> None:
    for path in Path(os.environ["TMPDIR"]).glob("plugin-bad*"):
        shutil.rmtree(path)


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "discarded"])
def test_a_flood_of_output_and_rubbish(peers: Any, make_client: Any, taken: bool) -> None:
    class Writer:
        total = 0

        def write(self, data: bytes) -> None:
            self.total += len(data)
            assert data.startswith(b"flood\n")

    writer = Writer()
    before = most_memory()
    client = make_client(
        peers.bad("flood-stdio", "-mib", "100"), sync_stdout=writer if taken else None
    )
    for _ in range(20):
        assert client.ping() == ""
    client.kill()
    assert client.exit_status == 0
    assert most_memory() - before < 64
    assert not taken or writer.total > 0


# ---- Many ---------------------------------------------------------------------------------------

MANY = 200


@pytest.fixture
def _descriptors() -> Iterator[None]:
    """Raises the limit of descriptors as far as possible: each plugin needs some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.usefixtures("_descriptors")
def test_many_at_once(peers: Any, make_client: Any, eventually: Any) -> None:
    command = peers.bad("serve")
    assert make_client(command).ping() == ""  # which starts the threads that there are
    clients = [make_client(command) for _ in range(MANY)]
    before = threads()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda client: client.ping(4 * DEADLINE), clients))
        assert answers == [""] * MANY
        assert len({client.pid for client in clients}) == MANY
        # gRPC's own pool of threads has a size of its own.
        assert threads() <= before + 8 + 8
        list(pool.map(lambda client: client.kill(), clients))
    assert {client.exit_status for client in clients} == {0}
    eventually(lambda: threads() <= before + 8, "an end of the threads")


# ---- Logs ---------------------------------------------------------------------------------------


def lines_of(peers: Any, make_client: Any, records: Any, kinds: str) -> list[Any]:
    client = make_client(peers.bad("stderr-lines", "-serve", "-kinds", kinds))
    client.start()
    client.kill()
    return list(records.records)


def test_hclog_lines(peers: Any, make_client: Any, records: Any) -> None:
    found = lines_of(peers, make_client, records, "hclog")
    assert [(r.levelname, r.getMessage()) for r in found] == [
        ("TRACE", "a trace"),
        ("DEBUG", "a debug"),
        ("INFO", "an info"),
        ("WARNING", "a warning"),
        ("ERROR", "an error"),
    ]
    assert found[0].created == pytest.approx(1714979289.123456, abs=1e-6)
    assert found[1].created == pytest.approx(1714979289.123456 - 7200, abs=1e-6)
    info = found[2]
    assert info.hclog_module == "peer.sub"
    assert info.hclog == {"answer": 42, "nested": {"a": [1, None, True]}, "text": "ünïcode"}
    assert found[4].hclog == {"error": "it broke"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "prefix",
            ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "DEBUG", "DEBUG"],
        ),
        ("json", ["DEBUG"] * 6),
        ("panic", ["ERROR", "ERROR", "ERROR", "ERROR", "INFO", "ERROR", "ERROR"]),
        ("fatal", ["ERROR"] * 3),
        ("traceback", ["ERROR"] * 3),
        ("invalid-utf8", ["DEBUG", "INFO"]),
        ("unfinished", ["DEBUG"]),
    ],
)
def test_levels_of_lines(
    peers: Any, make_client: Any, records: Any, kind: str, expected: list[str]
) -> None:
    found = lines_of(peers, make_client, records, kind)
    assert [r.levelname for r in found] == expected, [r.getMessage() for r in found]


def test_odd_types_are_text(peers: Any, make_client: Any, records: Any) -> None:
    found = lines_of(peers, make_client, records, "odd-types")
    assert len(found) == 2
    assert "no such time" in found[1].getMessage()


@pytest.mark.parametrize("kind", ["long", "long-hclog", "nul", "empty"])
def test_extreme_lines(peers: Any, make_client: Any, records: Any, kind: str) -> None:
    found = lines_of(peers, make_client, records, kind)
    total = sum(len(r.getMessage()) for r in found)
    assert total >= {"long": 1 << 20, "long-hclog": 1 << 20, "nul": 3, "empty": 0}[kind]
