"""The plugin's root handler: records become hclog lines on a descriptor."""

from __future__ import annotations

import datetime
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin._log.plugin import HclogHandler


class Line:
    """A logger that writes through an HclogHandler, and what it wrote."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.handler = HclogHandler(self._descriptor)
        self.logger = logging.getLogger("test_plugin_logging")
        self.logger.propagate = False
        self.logger.setLevel(1)
        self.logger.addHandler(self.handler)

    def entries(self) -> list[dict[str, Any]]:
        text = self._path.read_text(encoding="utf-8")
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def entry(self) -> dict[str, Any]:
        (entry,) = self.entries()
        return entry

    def close(self) -> None:
        self.logger.removeHandler(self.handler)
        os.close(self._descriptor)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path / "stderr")
    yield line
    line.close()


def test_entry(line: Line) -> None:
    line.logger.info("%d things", 3)
    entry = line.entry()
    assert entry["@message"] == "3 things"
    assert entry["@level"] == "info"
    assert entry["@module"] == "test_plugin_logging"
    stamp = datetime.datetime.fromisoformat(entry["@timestamp"].replace("Z", "+00:00"))
    age = datetime.datetime.now(datetime.timezone.utc) - stamp
    assert abs(age) < datetime.timedelta(minutes=1)
    assert set(entry) == {"@message", "@level", "@module", "@timestamp"}


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (1, "trace"),
        (5, "trace"),
        (9, "trace"),
        (10, "debug"),
        (20, "info"),
        (25, "info"),
        (30, "warn"),
        (40, "error"),
        (50, "error"),
        (99, "error"),
    ],
)
def test_levels(line: Line, level: int, name: str) -> None:
    line.logger.log(level, "m")
    assert line.entry()["@level"] == name


def test_root_logger_has_no_module(line: Line) -> None:
    line.handler.handle(logging.LogRecord("root", 20, "p", 1, "m", (), None))
    assert "@module" not in line.entry()


def test_traceback_is_part_of_the_one_entry(line: Line) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        line.logger.exception("it broke")
    message = line.entry()["@message"]
    assert message.startswith("it broke\nTraceback (most recent call last):\n")
    assert message.endswith("ValueError: bad")
    assert line.entry()["@level"] == "error"


def test_stack_info_is_part_of_the_entry(line: Line) -> None:
    line.logger.info("here", stack_info=True)
    assert line.entry()["@message"].startswith("here\nStack (most recent call last):")


def test_extra_becomes_fields(line: Line) -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

    extra = {
        "number": 1,
        "big": 2**70,
        "ratio": 0.5,
        "nan": float("nan"),
        "yes": True,
        "none": None,
        "list": [1, "two", Thing()],
        "dict": {1: {"deep": Thing()}},
        "path": Path("/x"),
        "@level": "not hclog's",
    }
    line.logger.info("m", extra=extra)
    entry = line.entry()
    assert entry["number"] == 1
    assert entry["big"] == str(2**70)
    assert entry["ratio"] == 0.5
    assert entry["nan"] == "nan"
    assert entry["yes"] is True
    assert entry["none"] is None
    assert entry["list"] == [1, "two", "a thing"]
    assert entry["dict"] == {"1": {"deep": "a thing"}}
    assert entry["path"] == "/x"
    assert entry["@level"] == "info"
    assert entry["level"] == "not hclog's"


def test_fields_of_a_mirrored_record_are_flattened(line: Line) -> None:
    """A host that is a plugin itself finds the fields of its plugins' records in `hclog`."""
    line.logger.info("m", extra={"hclog": {"answer": 42}})
    assert line.entry()["answer"] == 42
    assert "hclog" not in line.entry()


def test_cycles_end(line: Line) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    line.logger.info("m", extra={"cycle": cycle})
    assert "cycle" in line.entry()


def test_text_survives(line: Line) -> None:
    text = 'quote " backslash \\ newline \n control \x01 ünï \U0001f600'
    line.logger.info(text)
    assert line.entry()["@message"] == text


def test_lone_surrogates_do_not_lose_the_entry(line: Line) -> None:
    line.logger.info("file \udcff")
    assert line.entry()["@message"].startswith("file ")


def test_threads_do_not_mix_lines(line: Line) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            line.logger.info("x" * 5000, extra={"worker": number})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    workers = [entry["worker"] for entry in line.entries()]
    assert sorted(workers) == sorted(list(range(4)) * 50)


def test_bad_arguments_are_reported_not_raised(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not by the logger: pytest's own handlers would raise.
    line.handler.handle(logging.LogRecord("n", 20, "p", 1, "%d", ("not a number",), None))
    assert "Logging error" in capsys.readouterr().err


# ---- install() ----------------------------------------------------------------------------------

SCRIPT = """
import os, logging
{before}
from pygo_plugin._log import plugin
plugin.install(os.dup(2), {logger})
{after}
"""


def run(before: str, after: str, logger: str = "None") -> str:
    script = SCRIPT.format(before=before, after=after, logger=logger)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_install_catches_everything() -> None:
    (line,) = run("", "logging.getLogger('a.b').log(5, 'm')").splitlines()
    entry = json.loads(line)
    assert (entry["@level"], entry["@module"], entry["@message"]) == ("trace", "a.b", "m")


def test_install_leaves_the_authors_configuration_alone() -> None:
    before = "logging.basicConfig(format='own %(message)s')"
    assert run(before, "logging.info('i'); logging.warning('w')") == "own w\n"


def test_install_keeps_the_authors_level() -> None:
    after = "logging.info('i'); logging.error('e')"
    (line,) = run("logging.getLogger().setLevel(logging.ERROR)", after).splitlines()
    assert json.loads(line)["@message"] == "e"


def test_level_names() -> None:
    assert run("", "os.write(2, logging.getLevelName(5).encode())") == "TRACE"


MINE = "logging.getLogger('mine')"


def test_a_logger_of_the_authors_is_the_log() -> None:
    after = "logging.getLogger('mine.a').log(5, 'm'); logging.getLogger('other').info('o')"
    (line,) = run("", after, MINE).splitlines()
    entry = json.loads(line)
    assert (entry["@level"], entry["@module"], entry["@message"]) == ("trace", "mine.a", "m")


def test_a_logger_of_the_authors_keeps_its_handlers() -> None:
    before = f"{MINE}.addHandler(logging.StreamHandler())"
    plain, line = run(before, f"{MINE}.info('m')", MINE).splitlines()
    assert plain == "m"
    assert json.loads(line)["@message"] == "m"


@pytest.mark.parametrize("name", ["mine", ""])
def test_a_logger_of_the_authors_keeps_the_level(name: str) -> None:
    before = f"logging.getLogger({name!r}).setLevel(logging.ERROR)"
    (line,) = run(before, f"{MINE}.info('i'); {MINE}.error('e')", MINE).splitlines()
    assert json.loads(line)["@message"] == "e"


def test_a_logger_gets_one_handler() -> None:
    before = "from pygo_plugin._log import plugin as p; p.install(os.dup(2), logging.root)"
    (line,) = run(before, "logging.info('m')", "logging.root").splitlines()
    assert json.loads(line)["@message"] == "m"
