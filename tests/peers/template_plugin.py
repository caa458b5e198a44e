#!/usr/bin/env python3
"""A plugin that tells what it is, and that does something in particular before it serves.

Arguments: what to do, of BEFORE, and a file that is read as a module.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib import util
from pathlib import Path
from typing import Any

from pygo_plugin import HandshakeConfig, Plugin, ServeConfig, _core, aio, netrpc, serve

HANDSHAKE = HandshakeConfig(
    protocol_version=1, magic_cookie_key="PYGO_TEST_COOKIE", magic_cookie_value="pygo"
)
IMPORTED_BY = os.getpid()
forked: list[int] = []
os.register_at_fork(after_in_child=lambda: forked.append(os.getpid()))
imported: Any = None


class Facts:
    def facts(self) -> str:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return json.dumps(
            {
                "pid": os.getpid(),
                "parent": os.getppid(),
                "imported_by": IMPORTED_BY,
                "forked": forked,
                "directory": os.getcwd(),
                "environment": dict(os.environ),
                "random": random.random(),
                "temporary": next(tempfile._get_candidate_names()),  # type: ignore[attr-defined]
                "stdin": os.readlink("/proc/self/fd/0"),
                "module": getattr(imported, "VALUE", None),
                "cpu": usage.ru_utime + usage.ru_stime,
            }
        )

    def write_at_exit(self, path: str) -> None:
        atexit.register(Path(path).write_text, str(os.getpid()))

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return True

    def fail(self) -> None:
        raise ValueError("by design")

    def exit(self, status: int) -> None:
        os._exit(status)

    def print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def plugins() -> dict[str, Any]:
    return {"facts": netrpc.plugin(Facts)}


class EchoPlugin(Plugin):
    """With generated stubs, which import grpcio."""

    def server_register(self, server: Any) -> None:
        import probe_pb2
        import probe_pb2_grpc

        class Servicer(probe_pb2_grpc.ProbeServicer):
            def Echo(self, request: Any, context: Any) -> Any:
                return probe_pb2.EchoReply(payload=request.payload)

        probe_pb2_grpc.add_ProbeServicer_to_server(Servicer(), server)


def serve_grpc() -> None:
    import grpc  # noqa: F401

    serve(ServeConfig(handshake_config=HANDSHAKE, plugins={"probe": EchoPlugin()}))
    sys.exit()


def config() -> ServeConfig:
    return ServeConfig(handshake_config=HANDSHAKE, plugins=plugins())


def hang() -> None:
    Path(sys.argv[3]).touch()
    while True:
        signal.pause()


def refuse_to_clone() -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    _core.template_clone = fail


BEFORE = {
    "eagain": refuse_to_clone,
    "grpc": serve_grpc,
    "nothing": lambda: None,
    "thread": lambda: threading.Thread(target=time.sleep, args=(3600,), daemon=True).start(),
    "socket": lambda: setattr(sys, "kept", socket.socket()),
    "pipe": lambda: setattr(sys, "kept", os.pipe()),
    "process": lambda: setattr(sys, "kept", subprocess.Popen(["sleep", "3600"])),
    "print": lambda: print("hello", flush=True),
    "stderr": lambda: print("imported", file=sys.stderr, flush=True),
    "fail": lambda: sys.exit(3),
    "hang": hang,
}


async def serve_on_a_loop() -> None:
    await aio.serve(config())


def main() -> None:
    global imported
    what = sys.argv[1] if len(sys.argv) > 1 else "nothing"
    if len(sys.argv) > 2:
        spec = util.spec_from_file_location("imported", sys.argv[2])
        assert spec is not None
        assert spec.loader is not None
        imported = sys.modules["imported"] = util.module_from_spec(spec)
        spec.loader.exec_module(imported)
    if what == "aio":
        asyncio.run(aio.serve(config()))
    elif what == "loop":
        asyncio.run(serve_on_a_loop())
    else:
        BEFORE[what]()
        serve(config())


if __name__ == "__main__":
    main()
