#!/usr/bin/env python3
"""Writes what is made from the tables of options: keywords, attributes, documentation.

    python scripts/options.py           writes it
    python scripts/options.py --check   only says which files are out of date, and fails if any is

The tables are SERVE_OPTIONS in pygo_plugin/config.py, OPTIONS and AIO_OPTIONS in
pygo_plugin/_host/options.py, OWN_OPTIONS in pygo_plugin/_supervise/options.py, and POOL_OPTIONS in
pygo_plugin/_supervise/group.py. A generated part follows a line that says so, and names its table.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pygo_plugin._base.checks import Option  # noqa: E402
from pygo_plugin._host.options import AIO_OPTIONS, OPTIONS, TARGETS, ClientOption  # noqa: E402
from pygo_plugin._supervise import group  # noqa: E402
from pygo_plugin._supervise import options as supervise  # noqa: E402
from pygo_plugin.config import SERVE_OPTIONS  # noqa: E402

WIDTH = 100

# The clients' first argument, `cmd`, has other types than the option, and needs no keyword.
KEYWORDS = tuple(option for option in OPTIONS if option.name != "cmd")

TABLES: dict[str, tuple[Option, ...]] = {
    "OPTIONS": OPTIONS,
    "KEYWORDS": KEYWORDS,
    "AIO_KEYWORDS": (*KEYWORDS, *AIO_OPTIONS),
    "AIO_OPTIONS": AIO_OPTIONS,
    "SERVE_OPTIONS": SERVE_OPTIONS,
    "SUPERVISOR_OPTIONS": supervise.OWN_OPTIONS,
    "SUPERVISED": supervise.KEYWORDS,
    "AIO_SUPERVISED": supervise.AIO_KEYWORDS,
    "POOL_OPTIONS": group.POOL_OPTIONS,
    "POOLED": group.POOL_KEYWORDS,
    "AIO_POOLED": group.AIO_POOL_KEYWORDS,
}
FILES = (
    "pygo_plugin/client.py",
    "pygo_plugin/config.py",
    "pygo_plugin/_host/aio_client.py",
    "pygo_plugin/_host/config.py",
    "pygo_plugin/_supervise/aio_supervisor.py",
    "pygo_plugin/_supervise/aio_pool.py",
    "pygo_plugin/_supervise/pool.py",
    "pygo_plugin/_supervise/supervisor.py",
    "docs/launching.md",
    "docs/pools.md",
    "docs/serving.md",
    "docs/supervision.md",
)


# ---- What is written -----------------------------------------------------------------------------


def keywords(options: Iterable[Option], plugin: str = "PluginBase") -> list[str]:
    """The parameters of a function, with their types. `plugin` is the type of the plugins."""
    return [
        f"        {option.name}: {option.kind.takes} | None = None,".replace("PluginBase", plugin)
        if option.takes_none
        else f"        {option.name}: {option.kind.takes} = {option.default!r},"
        for option in options
    ]


def attributes(options: Iterable[Option]) -> list[str]:
    """The attributes of a configuration class, with their types."""
    return [f"    {option.slot}: {option.kind.holds}" for option in options]


def docstring(options: Iterable[Option]) -> list[str]:
    """The options' part of a class's docstring. Defaults that are empty go without saying."""
    lines = []
    for option in options:
        text = option.doc
        if option.default and not isinstance(option.default, type):
            text += f" Default: {shown_default(option)}."
        text += f" See docs/{option.page.partition('#')[0]}." if option.page else ""
        body = textwrap.wrap(text.replace("`", ""), WIDTH - 24)
        name = f"    {option.name}"
        if len(name) <= 22:
            lines.append(f"{name:24}{body.pop(0)}")
        else:
            lines.append(name)
        lines += [f"{'':24}{line}" for line in body]
    return lines


def table(options: Iterable[Option]) -> list[str]:
    """The table in a page of docs/."""
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for option in options:
        default = shown_default(option)
        text = option.doc
        if isinstance(option, ClientOption) and option.targets not in (TARGETS, (option.name,)):
            text += f" Only with {' or '.join(f'`{target}`' for target in option.targets)}."
        if option.protocol:
            text += " Only for gRPC."
        if option.page:
            text += f" See [{option.page.partition('.')[0]}]({option.page})."
        lines.append(f"| `{option.name}` | {f'`{default}`' if default else ''} | {text} |")
    return lines


def conflicts(options: Iterable[Option]) -> list[str]:
    """The list of what excludes each other, in a page of docs/."""
    messages = [
        message
        for option in options
        if isinstance(option, ClientOption)
        for message in option.conflicts.values()
    ]
    return [f"- {message}." for message in dict.fromkeys(messages)]


def shown_default(option: Option) -> str:
    """The default as a user would write it; empty if there is nothing to write."""
    default = option.default
    if isinstance(default, type):
        return f"{default.__name__}()"
    if default is None:
        default = option.kind.check(option.name, None)
    if default in (None, ""):
        return ""
    return json.dumps(default) if isinstance(default, (str, list)) else repr(default)


# ---- Where it goes -------------------------------------------------------------------------------

# What a part is called in the line before it, what writes it, and how the line after it begins.
PARTS = {
    "Attributes": (attributes, ""),
    "Keywords": (keywords, "    )"),
    "Options": (docstring, '    """'),
    "Table": (table, ""),
    "Conflicts": (conflicts, ""),
}
MARKER = re.compile(
    r"\W*(\w+), written by scripts/options\.py from (.*?)(?:, with (PluginBase\[.*\]))?:(?: -->)?"
)


def renewed(lines: Sequence[str]) -> list[str]:
    """The lines of a file with its generated parts as they ought to be."""
    result: list[str] = []
    rest = iter(lines)
    for line in rest:
        result.append(line)
        marker = MARKER.fullmatch(line)
        if marker is None:
            continue
        write, end = PARTS[marker[1]]
        result += write(TABLES[marker[2]], *filter(None, (marker[3],)))
        for old in rest:
            if old.startswith(end) if end else not old.strip():
                result.append(old)
                break
    return result


def main(arguments: Sequence[str]) -> int:
    stale = []
    for name in FILES:
        path = ROOT / name
        before = path.read_text()
        after = "\n".join(renewed(before.split("\n")))
        if after != before:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(after)
    if "--check" in arguments and stale:
        print(f"out of date: {', '.join(stale)}; run scripts/options.py, which writes them anew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
