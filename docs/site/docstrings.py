"""Docstrings of the package as Markdown, for mkdocstrings.

They are Markdown but for two habits: parameters are lines of a name and its meaning in columns, and
other pages are named as docs/PAGE.md.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMES = r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)"
ENTRY = re.compile(rf"^{NAMES}(?: {{2,}}(\S.*))?$")
FIRST = re.compile(rf"^{NAMES} {{2,}}\S", re.MULTILINE)
SECTION = re.compile(r"\n?^(Returns|Raises|Yields): ", re.MULTILINE)
PAGE = re.compile(r"\bdocs/(\w[\w-]*)\.md\b")


class Docstrings(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    paragraphs = [_definitions(paragraph) for paragraph in text.split("\n\n")]
    text = SECTION.sub(r"\n\n**\1:** ", "\n\n".join(paragraphs))
    return PAGE.sub(r"[docs/\1.md](../docs/\1.html)", text)


def _definitions(paragraph: str) -> str:
    """The paragraph, with a table of names and meanings at its end as a list of definitions."""
    first = FIRST.search(paragraph)
    if first is None:
        return paragraph
    lines = paragraph[first.start() :].splitlines()
    if not all(ENTRY.match(line) or line.startswith("    ") for line in lines):
        return paragraph
    out = [paragraph[: first.start()].strip()]
    for line in lines:
        if match := ENTRY.match(line):
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            out.append(f"{names}\n:   {match[2] or ''}")
        else:
            out[-1] += f"\n    {line.strip()}"
    return "\n\n".join(out)
