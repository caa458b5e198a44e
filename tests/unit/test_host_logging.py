"""Batches from the core become log records: names, levels, fields, and what handlers may do."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pygo_plugin._log.host import NOTHING, TRACE, LogMirror, plugin_logger

CREATED = 1714979289.123456

INFO = (20, "an info", "peer.sub", CREATED, {"answer": 42})


def record(level: int, message: str) -> tuple[int, str, None, float, None]:
    return (level, message, None, 0.0, None)


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(0)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def parent() -> Iterator[logging.Logger]:
    """A logger of the application that lets all levels through."""
    logger = logging.getLogger("test_host_logging")
    logger.setLevel(1)
    yield logger
    logger.handlers.clear()
    logger.filters.clear()
    logger.setLevel(logging.NOTSET)
    logger.disabled = False


@pytest.fixture
def keeper(parent: logging.Logger) -> Keeper:
    handler = Keeper()
    parent.addHandler(handler)
    return handler


@pytest.fixture
def mirror(parent: logging.Logger) -> LogMirror:
    return LogMirror(plugin_logger(parent, "kv"), "/opt/kv", lambda: 4711)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    caught: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.append(args.exc_value))
    return caught


# ---- Loggers ------------------------------------------------------------------------------------


def test_default_logger_is_named_after_the_executable() -> None:
    assert plugin_logger(None, "kv-go").name == "pygo_plugin.plugin.kv-go"


def test_given_logger_gets_a_child() -> None:
    parent = logging.getLogger("myapp.plugins")
    child = plugin_logger(parent, "kv-go")
    assert child.name == "myapp.plugins.kv-go"
    assert child.parent is parent
    assert plugin_logger(logging.getLogger(), "kv-go").name == "kv-go"


def test_logger_outside_the_tree_is_used_itself() -> None:
    """The manager does not know a logger made by Logger(), and it can have no children."""
    loner = logging.Logger("loner")
    assert plugin_logger(loner, "kv") is loner


# ---- Records ------------------------------------------------------------------------------------


def test_record_attributes(mirror: LogMirror, keeper: Keeper) -> None:
    mirror(None, [INFO])
    (got,) = keeper.records
    assert type(got) is logging.LogRecord
    assert (got.name, got.levelno, got.levelname) == ("test_host_logging.kv", 20, "INFO")
    assert (got.getMessage(), got.args) == ("an info", ())
    assert got.created == CREATED
    assert got.msecs == 123
    assert got.hclog == {"answer": 42}
    assert got.hclog_module == "peer.sub"
    assert got.plugin_path == "/opt/kv"
    assert got.plugin_pid == 4711
    assert got.process == os.getpid()
    assert got.thread == threading.get_ident()


def test_records_have_all_that_ordinary_ones_have(mirror: LogMirror, keeper: Keeper) -> None:
    mirror(None, [INFO])
    ordinary = logging.LogRecord("n", 20, "p", 1, "m", (), None)
    assert set(ordinary.__dict__) <= set(keeper.records[0].__dict__)
    everything = (
        "%(asctime)s %(created)f %(filename)s %(funcName)s %(levelname)s %(levelno)d %(lineno)d "
        "%(message)s %(module)s %(msecs)d %(name)s %(pathname)s %(process)d %(processName)s "
        "%(relativeCreated)d %(thread)d %(threadName)s"
    )
    assert "an info" in logging.Formatter(everything).format(keeper.records[0])


def test_relative_time_goes_with_the_plugins_clock(mirror: LogMirror, keeper: Keeper) -> None:
    mirror(None, [INFO, (20, "later", None, CREATED + 1.5, None)])
    first, second = keeper.records
    assert second.relativeCreated - first.relativeCreated == pytest.approx(1500)
    ordinary = logging.LogRecord("n", 20, "p", 1, "m", (), None)
    start = ordinary.created - ordinary.relativeCreated / 1000
    assert first.relativeCreated == pytest.approx((CREATED - start) * 1000, abs=1)


@pytest.mark.parametrize("micros", [0, 1000, 123000, 999000, 999999])
def test_msecs_are_cut_off_not_rounded(mirror: LogMirror, keeper: Keeper, micros: int) -> None:
    mirror(None, [(20, "m", None, 1714979289 + micros / 1e6, None)])
    assert keeper.records[0].msecs == micros // 1000


def test_without_a_time_stamp_the_record_is_from_now(mirror: LogMirror, keeper: Keeper) -> None:
    before = time.time()
    mirror(None, [record(20, "m")])
    assert before <= keeper.records[0].created <= time.time()
    assert keeper.records[0].hclog == {}
    assert keeper.records[0].hclog_module is None


def test_percent_signs_are_just_text(mirror: LogMirror, keeper: Keeper) -> None:
    mirror(None, [record(20, "100 %s done")])
    assert keeper.records[0].getMessage() == "100 %s done"


def test_every_level_has_its_name(mirror: LogMirror, keeper: Keeper) -> None:
    mirror(None, [record(level, "m") for level in (5, 10, 20, 30, 40)])
    names = [r.levelname for r in keeper.records]
    assert names == ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]


def test_pid_is_asked_for_until_it_is_known(parent: logging.Logger, keeper: Keeper) -> None:
    pids = iter([-1, 12])
    mirror = LogMirror(parent, "/opt/kv", lambda: next(pids))
    for _ in range(3):
        mirror(None, [record(20, "m")])
    assert [r.plugin_pid for r in keeper.records] == [-1, 12, 12]


def test_record_factory_of_the_application(mirror: LogMirror, keeper: Keeper) -> None:
    class Own(logging.LogRecord):
        flavour = "own"

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        mirror(None, [INFO])
    finally:
        logging.setLogRecordFactory(before)
    (got,) = keeper.records
    assert got.flavour == "own"
    assert (got.getMessage(), got.created, got.plugin_pid) == ("an info", CREATED, 4711)


# ---- Levels -------------------------------------------------------------------------------------


def test_lowest_level_follows_the_logger(mirror: LogMirror, parent: logging.Logger) -> None:
    assert mirror(None, []) == TRACE
    parent.setLevel(logging.WARNING)
    assert mirror(None, []) == logging.WARNING
    parent.setLevel(25)
    assert mirror(None, []) == logging.WARNING
    parent.setLevel(logging.CRITICAL)
    assert mirror(None, []) == NOTHING


def test_logging_disable_counts(mirror: LogMirror, keeper: Keeper) -> None:
    logging.disable(logging.INFO)
    try:
        assert mirror(None, [INFO, record(30, "w")]) == logging.WARNING
    finally:
        logging.disable(logging.NOTSET)
    assert [r.getMessage() for r in keeper.records] == ["w"]
    assert mirror(None, []) == TRACE


def test_disabled_logger_wants_nothing(mirror: LogMirror, parent: logging.Logger) -> None:
    child = logging.getLogger("test_host_logging.kv")
    child.disabled = True
    try:
        assert mirror(None, [INFO]) == NOTHING
    finally:
        child.disabled = False
    assert mirror(None, []) == TRACE


# ---- Handlers that fail -------------------------------------------------------------------------


def test_failing_filter_loses_its_record_only(
    mirror: LogMirror, keeper: Keeper, unraisable: list[Any]
) -> None:
    def moody(got: logging.LogRecord) -> bool:
        if got.getMessage() == "bad":
            raise RuntimeError("moody")
        return True

    keeper.addFilter(moody)
    lowest = mirror(None, [record(20, "one"), record(20, "bad"), record(20, "two")])
    assert lowest == TRACE
    assert [r.getMessage() for r in keeper.records] == ["one", "two"]
    assert [str(error) for error in unraisable] == ["moody"]


def test_system_exit_in_a_handler_goes_nowhere(
    mirror: LogMirror, keeper: Keeper, unraisable: list[Any]
) -> None:
    def leave(got: logging.LogRecord) -> bool:
        raise SystemExit(3)

    keeper.addFilter(leave)
    mirror(None, [INFO])
    assert [type(error) for error in unraisable] == [SystemExit]


# ---- Raw copies ---------------------------------------------------------------------------------


def copy_to(target: Any) -> LogMirror:
    return LogMirror(logging.getLogger("test_host_logging.raw"), "/opt/kv", lambda: 1, target)


class BytesOnly:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += memoryview(data)


class TextOnly:
    def __init__(self) -> None:
        self.data = ""

    def write(self, data: str) -> None:
        if not isinstance(data, str):
            raise TypeError("text only")
        self.data += data


@pytest.mark.parametrize("make", [io.StringIO, TextOnly])
def test_text_writers_get_whole_characters(make: Callable[[], Any]) -> None:
    target = make()
    mirror = copy_to(target)
    data = "[INFO] grüße\n".encode()
    for i in range(len(data)):
        mirror(data[i : i + 1], [])
    mirror(b"\xff\n", [])
    written = target.getvalue() if isinstance(target, io.StringIO) else target.data
    assert written == "[INFO] grüße\n�\n"


def test_binary_writers_get_bytes() -> None:
    buffer, plain = io.BytesIO(), BytesOnly()
    for target in (buffer, plain):
        copy_to(target)(b"\xff\0\n", [])
    assert buffer.getvalue() == plain.data == b"\xff\0\n"


def test_descriptors_get_bytes() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        data = bytes(range(256)) * 4096  # more than a pipe holds
        thread = threading.Thread(target=copy_to(writer), args=(data, []))
        thread.start()
        got = b""
        while len(got) < len(data):
            got += os.read(reader, 65536)
        thread.join()
    finally:
        os.close(reader)
        os.close(writer)
    assert got == data


def test_copy_that_fails_is_given_up(unraisable: list[Any], keeper: Keeper) -> None:
    target = io.BytesIO()
    target.close()
    parent = logging.getLogger("test_host_logging")
    mirror = LogMirror(parent, "/opt/kv", lambda: 1, target)
    mirror(b"one\n", [record(20, "one")])
    mirror(b"two\n", [record(20, "two")])
    assert [type(error) for error in unraisable] == [ValueError]
    assert [r.getMessage() for r in keeper.records] == ["one", "two"]


# ---- A script that configures nothing -----------------------------------------------------------

SCRIPT = """
import logging, sys
from pygo_plugin._log.host import LogMirror, plugin_logger
{setup}
mirror = LogMirror(plugin_logger(None, "kv"), "/opt/kv", lambda: 1)
print(mirror(None, [(20, "an info", None, 0.0, None), (30, "a warning", None, 0.0, None)]))
"""


def run(setup: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(setup=setup)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_bare_script_sees_who_warns() -> None:
    done = run("")
    assert done.stderr == "/opt/kv: a warning\n"
    assert done.stdout == "30\n"


def test_configured_script_sees_no_prefix() -> None:
    done = run("logging.basicConfig(format='%(levelname)s %(message)s', level=5)")
    assert done.stderr == "INFO an info\nWARNING a warning\n"
    assert done.stdout == "5\n"


def test_name_of_trace_is_left_alone_if_it_has_one() -> None:
    script = (
        "import logging; logging.addLevelName(5, 'FINE'); import pygo_plugin._log.host; "
        "print(logging.getLevelName(5))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "FINE\n"
