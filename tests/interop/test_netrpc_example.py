"""examples/netrpc, with Python and Go on either side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from example_programs import EXAMPLES, built, run, without_yamux

pytestmark = pytest.mark.usefixtures("no_leftovers")

CELLS = [
    pytest.param("python", "python", id="python-python"),
    pytest.param("python", "go", id="python-go", marks=pytest.mark.go),
    pytest.param("go", "python", id="go-python", marks=pytest.mark.go),
    pytest.param("go", "go", id="go-go", marks=pytest.mark.go),
]


def program(name: str, language: str) -> list[Any]:
    if language == "python":
        return [sys.executable, EXAMPLES / "netrpc" / f"{name}.py"]
    return [built("words-go", name)]


@pytest.mark.parametrize("auto_mtls", [False, True], ids=["plain", "mtls"])
@pytest.mark.parametrize(("host", "plugin"), CELLS)
def test_words(host: str, plugin: str, auto_mtls: bool, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the quick fox\nis here\n" * 1250)
    option = [("--" if host == "python" else "-") + "auto-mtls"] * auto_mtls
    command = [*program("host", host), *option, "text", *program("plugin", plugin)]
    assert without_yamux(run(*command, directory=tmp_path)) == (
        "hello, host\n"
        "1000 lines so far\n"
        "2000 lines so far\n"
        '2500 lines, 6250 words, the longest is "quick"\n'
        " 1250 of 2 bytes\n"
        " 2500 of 3 bytes\n"
        " 1250 of 4 bytes\n"
        " 1250 of 5 bytes\n"
    )
