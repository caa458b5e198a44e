#!/usr/bin/env python3
"""A plugin that multiplexes as a hostile peer would: yamux_plugin.py MODE."""

import os
import socket
import sys
import tempfile

from yamux_frames import GO_AWAY, SYN, WINDOW, frame, hostile


def main() -> None:
    path = os.path.join(tempfile.gettempdir(), f"plugin-{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print(f"1|1|unix|{path}|grpc||true", flush=True)
        connection, _ = listener.accept()
        os.unlink(path)
    with connection:
        answer(connection, sys.argv[1])
        while connection.recv(1 << 16):
            pass


def answer(connection: socket.socket, mode: str) -> None:
    if mode == "half a frame":
        connection.sendall(frame(WINDOW, SYN, 2, 0)[:5])
        connection.shutdown(socket.SHUT_RDWR)
    elif mode == "flood":
        connection.sendall(b"".join(frame(WINDOW, SYN, 2 * n, 0) for n in range(1, 100_000)))
        connection.shutdown(socket.SHUT_WR)
    elif mode == "go away":
        connection.sendall(frame(GO_AWAY, 0, 0, 0))
    elif mode != "silence":
        connection.sendall(hostile(2, 12345)[mode])


main()
