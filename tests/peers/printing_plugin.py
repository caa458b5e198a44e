#!/usr/bin/env python3
"""A plugin whose KV.Get prints, in the way that the key names, and sometimes dies of it."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from pygo_plugin_peer import HANDSHAKE, GrpcioServer

from pygo_plugin import Plugin, ServeConfig, Server

failing = threading.Event()


def child() -> None:
    subprocess.run(["sh", "-c", "echo out of a child; echo err of a child >&2"], check=True)


def library() -> None:
    libc = ctypes.CDLL(None)
    libc.puts(b"out of a library")
    libc.fflush(None)


def grandchild() -> bytes:
    """Leave a process behind that has the pipes."""
    process = subprocess.Popen(["sleep", "600"])
    return str(process.pid).encode()


def thread() -> None:
    def fail() -> None:
        raise RuntimeError("a thread has failed")

    failing = threading.Thread(target=fail)
    failing.start()
    failing.join()


def segfault() -> None:
    faulthandler.enable()
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def abort() -> None:
    os.write(2, b"abort of a library\n")
    os.abort()


def terminate() -> None:
    print("before the signal")
    os.kill(os.getpid(), signal.SIGTERM)


def late() -> None:
    atexit.register(print, "printed at exit")


def big() -> None:
    print("x" * 200_000, end="")


ACTIONS: dict[str, Callable[[], Any]] = {
    "print": lambda: print("printed"),
    "partial": lambda: print("no newline", end=""),
    "write": lambda: os.write(1, b"written\n"),
    "log": lambda: logging.getLogger("peer").warning("logged"),
    "warn": lambda: print("to stderr", file=sys.stderr),
    "fail": lambda: failing.set(),
    "child": child,
    "library": library,
    "grandchild": grandchild,
    "thread": thread,
    "segfault": segfault,
    "abort": abort,
    "terminate": terminate,
    "late": late,
    "big": big,
}


class Printing(Plugin):
    def server_register(self, server: Any) -> None:
        import kv_pb2
        import kv_pb2_grpc

        class Servicer(kv_pb2_grpc.KVServicer):
            def Get(self, request: Any, context: Any) -> Any:
                answer = ACTIONS[request.key]()
                return kv_pb2.GetResponse(value=answer if isinstance(answer, bytes) else b"")

        kv_pb2_grpc.add_KVServicer_to_server(Servicer(), server)

    def client_class(self) -> Any:
        import kv_pb2_grpc

        return kv_pb2_grpc.KVStub


def main(kind: str) -> None:
    """Serve, and fail when asked to: the main program is not only there for the server."""
    config = ServeConfig(handshake_config=HANDSHAKE, plugins={"kv": Printing()})
    if kind == "aio":
        import asyncio

        from pygo_plugin import aio

        asyncio.run(aio.serve(config))
        return
    server = {"core": Server, "grpcio": GrpcioServer}[kind](config)
    if not server.serve():
        sys.exit(server.error_msg)
    while server._protocol.server.wait_for_termination(0.05):
        if failing.is_set():
            raise RuntimeError("the main program has failed")
    server._wait()


if __name__ == "__main__":
    main(sys.argv[1])
