"""Does in the current directory what a page of the documentation shows: run_page.py PAGE.

What a page takes for granted is made by given/PAGE.py, in the namespace of the page's Python
blocks. The first block that fails ends the program, with its place in the page.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kit"))

from snippets import ROOT, Block, blocks  # noqa: E402

PATIENCE = 120.0  # seconds for one command


class Shell:
    """Runs commands as one interactive shell would: variables and the directory stay."""

    def __init__(self) -> None:
        # The interpreter of this process is the one that a reader has activated.
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path}
        self._directory = os.getcwd()

    def run(self, script: str) -> tuple[int, str]:
        """Returns: the exit status and all output."""
        with tempfile.NamedTemporaryFile() as state:
            keep = f"trap 'status=$?; {{ pwd; env -0; }} > {state.name}; exit $status' EXIT\n"
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", keep + script],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self._directory, _, variables = Path(state.name).read_text().partition("\n")
        entries = (entry.partition("=") for entry in variables.split("\0") if entry)
        self._environment = {name: value for name, _, value in entries}
        return done.returncode, done.stdout

    def run_all(self, script: str) -> None:
        status, output = self.run(script)
        if status != 0:
            raise SystemExit(f"status {status}:\n{script}{output}")

    def run_session(self, session: str) -> None:
        """Commands with their output."""
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            status, output = self.run(command)
            pattern = "".join(map(pattern_of, expected.splitlines(keepends=True)))
            if status != 0 or not re.fullmatch(pattern, output, re.DOTALL):
                raise SystemExit(f"$ {command}\nshould print\n{expected}and printed\n{output}")


def pattern_of(line: str) -> str:
    """What a line of expected output matches: "..." stands for anything, alone for any lines."""
    if line.strip() == "...":
        return r"(?:.*\n)?"
    return ".*".join(map(re.escape, line.split("...")))


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Executes it where it stands, so that tracebacks have the page's lines."""
    code = compile(
        "\n" * (block.line - 1) + block.text,
        str(ROOT / block.page),
        "exec",
        ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    coroutine = eval(code, namespace)
    if coroutine is not None:
        asyncio.run(coroutine)


def main(page: str) -> None:
    shell = Shell()
    with contextlib.ExitStack() as stack:
        namespace: dict[str, Any] = {"__name__": "page", "stack": stack}
        given = HERE / "given" / (page.removesuffix(".md").replace("/", "-") + ".py")
        sys.path.insert(0, os.getcwd())
        if given.exists():
            text = given.read_text()
            exec(compile(text, str(given), "exec", dont_inherit=True), namespace)
        for block in blocks(ROOT / page):
            if not block.is_executed:
                continue
            print(f"{page}:{block.line}", flush=True)
            if block.title is not None:
                Path(block.title).write_text(block.text)
            elif block.language == "python":
                run_python(block, namespace)
            elif block.language == "sh":
                shell.run_all(block.text)
            else:
                shell.run_session(block.text)


if __name__ == "__main__":
    main(sys.argv[1])
