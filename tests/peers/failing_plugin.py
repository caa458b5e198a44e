#!/usr/bin/env python3
"""A plugin whose methods return wrong replies, and end its process in several ways.

The plugin "probe" is for gRPC, and "store" for net/rpc, which `--netrpc` serves. With `--ends FILE`
it ends in a call of Echo or Count as many times as there are bytes in the file, and takes one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import probe_pb2 as pb

from pygo_plugin import HandshakeConfig, ServeConfig, Server, StatusCode, netrpc, service

HANDSHAKE = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
Probe = service(pb)

LAST_WORDS = "the disk is full"

leaving = threading.Event()


def end_as_told() -> None:
    if "--ends" not in sys.argv:
        return
    path = sys.argv[sys.argv.index("--ends") + 1]
    with open(path, encoding="utf-8") as file:
        left = file.read()
    if left:
        with open(path, "w", encoding="utf-8") as file:
            file.write(left[1:])
        print(LAST_WORDS, file=sys.stderr, flush=True)
        os._exit(3)


class Servicer(Probe.Servicer):  # type: ignore[name-defined, misc]
    def Echo(self, request: Any, context: Any) -> Any:
        """Return what the payload says."""
        end_as_told()
        if request.payload == b"unavailable":
            context.abort(StatusCode.UNAVAILABLE, "the database is down")
        return {b"none": None, b"other": pb.SumReply(), b"class": pb.EchoReply}.get(
            request.payload, pb.EchoReply(payload=request.payload)
        )

    def Count(self, request: Any, context: Any) -> Iterator[Any]:
        """Yield one reply, and another one of the wrong type or none at all; only one if n is 2."""
        end_as_told()
        yield pb.CountReply()
        if request.n == 2:
            return
        if request.n == 1:
            yield None
        self.Exit(pb.ExitRequest(status=3), context)

    def Sum(self, requests: Any, context: Any) -> Any:
        for _ in requests:
            self.Exit(pb.ExitRequest(status=3), context)

    def Exit(self, request: Any, context: Any) -> Any:
        """End the process at once."""
        print(LAST_WORDS, file=sys.stderr, flush=True)
        if request.signal:
            os.kill(os.getpid(), request.signal)
            threading.Event().wait()
        os._exit(request.status)

    def Hang(self, request: Any, context: Any) -> Any:
        """Have the main thread end the process by an exception."""
        leaving.set()
        threading.Event().wait()


class Store:
    def get(self, key: str) -> str:
        return 5 if key == "wrong" else key  # type: ignore[return-value]

    def put(self, key: str):  # type: ignore[no-untyped-def]
        """Its result has no annotation."""

    def exit(self, status: int) -> None:
        print(LAST_WORDS, file=sys.stderr, flush=True)
        os._exit(status)

    def hang(self) -> None:
        leaving.set()
        threading.Event().wait()


if __name__ == "__main__":
    plugins: dict[str, Any] = {"probe": Probe.plugin(Servicer)}
    if "--netrpc" in sys.argv:
        plugins = {"store": netrpc.plugin(Store)}
    config = ServeConfig(handshake_config=HANDSHAKE, plugins=plugins)
    assert Server(config).serve()
    leaving.wait()
    raise LookupError(LAST_WORDS)
