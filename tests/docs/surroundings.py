"""What pages of the documentation take for granted: a service, its handshake, a plugin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kv_pb2
from snippets import ROOT, blocks

from pygo_plugin import HandshakeConfig, StatusCode, service

HANDSHAKE = HandshakeConfig(1, "KV_EXAMPLE_PLUGIN", "5f0c1b7e-kv")
KV = service(kv_pb2, "KV")


class KVServicer(KV.Servicer):  # type: ignore[misc,name-defined]
    """Keeps values in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def Get(self, request: Any, context: Any) -> Any:
        if request.key not in self.values:
            context.abort(StatusCode.NOT_FOUND, f"there is no key {request.key!r}")
        return kv_pb2.GetResponse(value=self.values[request.key])

    def Put(self, request: Any, context: Any) -> Any:
        self.values[request.key] = request.value
        return kv_pb2.PutResponse()


def kv_plugin() -> Any:
    """For either side."""
    return KV.plugin(KVServicer)


PLUGINS = {"kv": kv_plugin()}

PROGRAM = f"""\
#!{sys.executable}
import sys
from collections.abc import Callable

sys.path[:0] = {[str(Path(__file__).parent), str(ROOT / "tests" / "kit")]!r}
from pygo_plugin import ServeConfig, serve
from surroundings import HANDSHAKE, PLUGINS

if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS))
"""


def write_plugin(name: str) -> None:
    """An executable of that name, which serves PLUGINS."""
    path = Path(name)
    path.write_text(PROGRAM)
    path.chmod(0o755)


def write_files(page: str, *names: str) -> None:
    """Those files that another page shows."""
    for block in blocks(ROOT / page):
        if block.title in names:
            Path(block.title).write_text(block.text)


class Late:
    """An object that is made when it is first used, of what the page has defined by then."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)
