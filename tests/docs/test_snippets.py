"""Everything that the documentation shows works: each page is followed from top to bottom."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wheelhouse
from example_programs import built
from snippets import EXECUTED, ROOT, blocks, pages, prose

HERE = Path(__file__).resolve().parent
PAGES = [page.relative_to(ROOT).as_posix() for page in pages()]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/README.md"))

# By example, where `go build` puts which programs.
BUILT = {
    "bidirectional": {"go/bin": ["counter-go/plugin", "counter-go/host"]},
    "kv": {"plugin-go/bin": ["kv-go"]},
    "netrpc": {"go/bin": ["words-go/plugin", "words-go/host"]},
    "streaming": {"go/bin": ["streaming-go/plugin", "streaming-go/host"]},
}

# The bound on a page: a hang is a failure, whatever the machine.
PATIENCE = 180.0

pytestmark = pytest.mark.usefixtures("no_leftovers")


def follow(page: str, directory: Path, **changes: str | None) -> None:
    """Does what the page says, in the directory."""
    environment = {**os.environ, **changes}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "run_page.py"), page],
        cwd=directory,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout, pytrace=False)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheels")
    wheelhouse.fill(directory, "pygo-plugin", "grpcio-tools")
    return directory


def test_readme_in_an_empty_directory(wheels: Path, tmp_path: Path) -> None:
    """Its own commands, `pip install pygo-plugin` among them; only where pip looks is set here."""
    follow(
        "README.md",
        tmp_path,
        PYTHONPATH=None,
        PYTHONHOME=None,
        PIP_CONFIG_FILE=os.devnull,
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(wheels),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_COMPILE="1",  # to save time; Python compiles what is imported
    )


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example's directory with nothing in it that is generated."""
    name = request.param
    generated = shutil.ignore_patterns("*_pb2*.py*", "__pycache__", "bin")
    shutil.copytree(ROOT / "examples" / name, tmp_path / name, ignore=generated)
    for directory, programs in BUILT.get(name, {}).items():
        (tmp_path / name / directory).mkdir()
        for program in programs:
            shutil.copy(built(program), tmp_path / name / directory)
    return tmp_path / name


@pytest.mark.go
@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_example(example: Path) -> None:
    # Go's own environment is that of the set-up, so that `go build` finds its programs up to date.
    follow(
        f"examples/{example.name}/README.md",
        example,
        PYTHONPATH=None,
        GOFLAGS="-trimpath -buildvcs=false",
        CGO_ENABLED="0",
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_page(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    for block in blocks(ROOT / page):
        place = f"{block.page}:{block.line}"
        assert block.language, f"{place}: the block has no language; use text for plain text"
        if block.not_run is not None:
            assert block.language in EXECUTED, f"{place}: {block.language} is never run"
    # An indented block would be no block to run_page.py.
    lines = prose(ROOT / page).splitlines()
    for number, (before, line) in enumerate(zip(lines, lines[1:]), 2):
        if not before and re.match(r" {4,}\S", line):
            pytest.fail(f"{page}:{number}: an indented block; use a fence")


def test_links_in_the_documentation() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*pages(), *ROOT.glob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)\)", prose(page))
        if not (page.parent / target).exists()
    ]
    assert not broken
