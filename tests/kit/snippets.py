"""The blocks of code in the documentation, and what a reader would do with each of them.

    ```python                    executed, in the namespace of the page's blocks before it
    ```python title="host.py"    written to that file, as is a titled block of any language
    ```sh                        executed by a shell, which keeps its variables and its directory
    ```console                   commands after "$ ", each executed; what follows one is its
                                 output, in which "..." stands for any text
    <!-- not run: a reason -->   on the line before a block: it is not executed

Blocks of other languages are not executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^( *)(`{3,})(\w*)(.*)$")
TITLE = re.compile(r'title="([^"]+)"')
NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")

EXECUTED = ("python", "sh", "console")


@dataclass
class Block:
    page: str
    line: int  # of its first line of text, from 1
    language: str
    title: str | None
    not_run: str | None  # the reason
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(line + "\n" for line in self.lines)

    @property
    def is_executed(self) -> bool:
        return self.not_run is None and (self.title is not None or self.language in EXECUTED)


def pages() -> list[Path]:
    """Every page that is documentation for users."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
    ]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return list(_blocks(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()))


def _blocks(text: str, page: str) -> Iterator[Block]:
    block = None
    fence = indent = previous = ""
    for number, line in enumerate(text.splitlines(), 1):
        if block is not None:
            if line.strip() == fence:
                yield block
                block = None
            else:
                block.lines.append(line.removeprefix(indent))
        elif match := FENCE.match(line):
            indent, fence, language, rest = match.groups()
            title = TITLE.search(rest)
            reason = NOT_RUN.match(previous)
            block = Block(page, number + 1, language, title and title[1], reason and reason[1])
        previous = line
    if block is not None:
        raise ValueError(f"{page}:{block.line}: the block has no end")


def prose(path: Path) -> str:
    """The text of a page, in which the lines of its blocks are empty."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for block in blocks(path):
        for number in range(block.line - 2, block.line + len(block.lines)):
            lines[number] = ""
    return "".join(line + "\n" for line in lines)
