#!/usr/bin/env python3
"""A counter of words as a plugin. Started by a host only; see host.py."""

from __future__ import annotations

from typing import Any

from shared import HANDSHAKE, CountArgs, Counter, Counts

from pygo_plugin import ServeConfig, netrpc, serve


class WordCounter(Counter):
    """Answers the calls of the host."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    def greet(self, name: str) -> str:
        return f"hello, {name}"

    def count(self, args: CountArgs) -> Counts:
        counts = Counts()
        # The arguments carry ids; behind them are a reader and an object of the host's.
        with (
            self._broker.open_io(args.text) as text,
            self._broker.client(args.progress) as progress,
        ):
            for line in text:
                counts.lines += 1
                for word in line.split():
                    counts.words += 1
                    counts.by_length[len(word)] = counts.by_length.get(len(word), 0) + 1
                    if len(word) > len(counts.longest):
                        counts.longest = word.decode()
                if counts.lines % args.every == 0:
                    progress.call("Plugin.Report", counts.lines)
        return counts


if __name__ == "__main__":
    plugins = {"words": netrpc.plugin(Counter, WordCounter)}
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins))
