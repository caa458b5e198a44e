#!/usr/bin/env python3
"""Copies files of its host's, in capitals. Started by a host only; see host.py."""

from __future__ import annotations

from typing import Any

import shout_pb2
from shared import HANDSHAKE, SHOUT

from pygo_plugin import Plugin, ServeConfig, serve


class Shout(SHOUT.Servicer):  # type: ignore[misc,name-defined]
    """Answers the calls of the host."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker

    def Copy(self, request: Any, context: Any) -> Any:
        # File objects: iterate, wrap them in io.TextIOWrapper, hand them to csv or gzip ...
        opened = self.broker.open_io
        lines = 0
        with opened(request.source) as source, opened(request.target, "wb") as target:
            for line in source:
                target.write(line.upper())
                lines += 1
        return shout_pb2.CopyResponse(lines=lines)


class ShoutPlugin(Plugin):
    def grpc_server(self, broker: Any, server: Any) -> None:
        SHOUT.add_to_server(Shout(broker), server)


if __name__ == "__main__":
    serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"shout": ShoutPlugin()}))
