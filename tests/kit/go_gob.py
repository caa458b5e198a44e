"""Go's encoding/gob, as the judge of ours: encodes and decodes values of any type.

Types and values are described in JSON, as tests/peers/go/internal/gobjson has it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any, NamedTuple

Register = Iterable[tuple[str, Any]]  # names of types in interface values, and the types


class GoGobError(Exception):
    """Go's error, and the values that were decoded before it."""

    def __init__(self, text: str, values: list[Any]) -> None:
        super().__init__(text)
        self.values = values


class Sample(NamedTuple):
    """Values of one type, and the stream that Go has made of them."""

    kind: str
    type: Any
    values: list[Any]
    data: bytes


class GoGob:
    """A process that answers one request after another. Not for several threads at once."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def encode(self, of: Any, *values: Any, register: Register = ()) -> list[bytes]:
        """The bytes that one encoder writes for each value. Raises: GoGobError."""
        reply = self._ask(op="encode", type=of, values=values, register=list(register))
        return [bytes.fromhex(digits) for digits in reply["hex"]]

    def decode(self, of: Any, data: bytes, register: Register = ()) -> list[Any]:
        """All values of a stream. Raises: GoGobError."""
        reply = self._ask(op="decode", type=of, hex=data.hex(), register=list(register))
        values: list[Any] = reply["values"]
        return values

    def samples(self) -> list[Sample]:
        """Values of every type, by another process of the program."""
        done = subprocess.run([*self._command, "-samples"], stdout=subprocess.PIPE, check=True)
        return [
            Sample(line["kind"], line["type"], line["values"], bytes.fromhex(line["hex"]))
            for line in map(json.loads, done.stdout.splitlines())
        ]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the Go program died of {request}"
        reply: dict[str, Any] = json.loads(line)
        if not reply["ok"]:
            raise GoGobError(reply["error"], reply.get("values", []))
        return reply
