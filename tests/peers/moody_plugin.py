#!/usr/bin/env python3
"""A plugin that a file tells how to behave, when it starts: the first word of its first line.

    moody_plugin.py FILE [--netrpc]

Each start takes the first line out of the file; without one, the plugin is well.

    exit N     exits with that status before its handshake
    late N     exits with that status right after its handshake
    silent     never comes to its handshake
    sick       is never healthy
    deaf       comes to its handshake, and then answers nothing
    stubborn   answers `Hang` never, and does not end by itself
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import probe_pb2 as pb

from pygo_plugin import HandshakeConfig, ServeConfig, Server, netrpc, server, service

HANDSHAKE = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
Probe = service(pb)


class Servicer(Probe.Servicer):  # type: ignore[name-defined, misc]
    def Echo(self, request: Any, context: Any) -> Any:
        return pb.EchoReply(payload=str(os.getpid()).encode())

    def Hang(self, request: Any, context: Any) -> Any:
        print("hanging", file=sys.stderr, flush=True)
        threading.Event().wait()


class Store:
    def echo(self, text: str) -> str:
        return str(os.getpid())


def plugins(protocol: str = "grpc") -> dict[str, Any]:
    if protocol == "netrpc":
        return {"store": netrpc.plugin(Store)}
    return {"probe": Probe.plugin(Servicer)}


def next_mood(path: str) -> list[str]:
    """The words of the first line, which is taken out of the file."""
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        lines = file.readlines()
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines[1:])
    return lines[0].split() if lines else ["well"]


def after_handshake(mood: list[str]) -> None:
    """Have the process behave as told once it has written its handshake line."""
    write = server._print_handshake

    def written(*arguments: Any) -> None:
        write(*arguments)
        if mood[0] == "late":
            os._exit(int(mood[1]))
        if mood[0] == "deaf":
            os.kill(os.getpid(), signal.SIGSTOP)

    server._print_handshake = written


class SickServer(Server):
    GRPC_SERVICE_NAME = "another"


def main() -> None:
    path, protocol = sys.argv[1], "netrpc" if "--netrpc" in sys.argv else "grpc"
    mood = next_mood(path)
    if mood[0] == "exit":
        sys.exit(int(mood[1]))
    if mood[0] == "silent":
        threading.Event().wait()
    config = ServeConfig(handshake_config=HANDSHAKE, plugins=plugins(protocol))
    if mood[0] == "stubborn":
        config.shutdown_grace = 1e5
    after_handshake(mood)
    plugin = (SickServer if mood[0] == "sick" else Server)(config)
    assert plugin.serve(wait=True), plugin.error_msg


if __name__ == "__main__":
    main()
