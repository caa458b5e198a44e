"""What a hostile peer says in yamux, by name. Each comes with whether it costs the connection."""

from __future__ import annotations

import random
import struct

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream, length)


def hostile(own: int, theirs: int) -> dict[str, bytes]:
    """`own` is an id that the sender may open a stream with, `theirs` one that the other side may,
    and has not."""
    opened = frame(WINDOW, SYN, own, 0)
    return {
        "bad version": frame(DATA, 0, own, 0, version=1),
        "bad type": frame(9, 0, own, 0),
        "oversize frame": opened + frame(DATA, 0, own, 1 << 31),
        "window overflow": opened + frame(WINDOW, 0, own, 0xFFFFFFFF),
        "opened twice": opened + opened,
        "an id of the other side's": frame(WINDOW, SYN, theirs, 0),
        "unknown id": frame(DATA, 0, theirs, 0),
        "session id": frame(DATA, SYN, 0, 4) + b"data",
        "unknown reason to go": frame(GO_AWAY, 0, 0, 77),
        "garbage": random.Random(7).randbytes(100_000),
    }


PROTOCOL_ERROR = frame(GO_AWAY, 0, 0, 1)
FATAL = list(hostile(1, 2))
