#!/usr/bin/env python3
"""Has a plugin count the words of a file, which is read through the host.

usage: host.py [--auto-mtls] FILE [PLUGIN [ARGUMENT]]

The plugin is plugin.py next to this file unless the command line names one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shared import HANDSHAKE, CountArgs, Counter

from pygo_plugin import Client, netrpc


class Progress:
    """Lent to the plugin, which calls it."""

    def report(self, lines: int) -> None:
        print(f"{lines} lines so far")


def main(arguments: list[str]) -> None:
    file, *command = [argument for argument in arguments if not argument.startswith("--")]
    with Client(
        command or [sys.executable, str(Path(__file__).with_name("plugin.py"))],
        handshake_config=HANDSHAKE,
        plugins={"words": netrpc.plugin(Counter)},
        allowed_protocols=["netrpc"],
        auto_mtls="--auto-mtls" in arguments,
    ) as client:
        counter = client.dispense("words")
        print(counter.greet("host"))
        broker = client.broker
        with (
            open(file, "rb") as source,
            broker.serve_io(source) as text,
            broker.serve(Progress()) as progress,
        ):
            counts = counter.count(CountArgs(text, progress, every=1000), timeout=60)
    print(f'{counts.lines} lines, {counts.words} words, the longest is "{counts.longest}"')
    for length, number in sorted(counts.by_length.items()):
        print(f"{number:5} of {length} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
