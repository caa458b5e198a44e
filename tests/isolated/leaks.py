"""Uses everything again and again, and reports what has grown.

`leaks.py MODE COMMAND` prints JSON: for each resource its value after each third of the rounds.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host import DEADLINE, main, make_client, pb

from pygo_plugin import RpcError

PAGE = os.sysconf("SC_PAGE_SIZE")


def snapshot() -> dict[str, int]:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: what it keeps is no leak
    if trim is not None:
        trim(0)
    children = Path("/proc/self/task").glob("*/children")
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": sum(len(path.read_text().split()) for path in children),
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
    }


def in_thirds(rounds: int, one: Callable[[int], None]) -> None:
    found = []
    for _ in range(3):
        for number in range(rounds // 3):
            one(number)
        found.append(snapshot())
    print(json.dumps({name: [third[name] for third in found] for name in found[0]}))


def cycles() -> None:
    def one(number: int) -> None:
        client = make_client()
        channel, probe = client.dispense("probe")
        assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
        if number % 2:
            channel.close()
        client.kill()

    in_thirds(300, one)


def calls() -> None:
    messages = [pb.ChatMessage(payload=b"x" * 100)] * 2
    payload = b"x" * 100

    def failed(probe: Any, number: int) -> None:
        request = pb.FailRequest(code=1 + number % 16, details=str(number))
        caught = None
        try:
            probe.Fail(request, timeout=DEADLINE)
        except RpcError as error:
            caught = error.details()
        assert caught == str(number)
        assert probe.Fail.future(request).exception(DEADLINE) is not None

    def cancelled(probe: Any) -> None:
        future = probe.Hang.future(pb.HangRequest())
        future.add_done_callback(lambda _: None)
        assert future.cancel()
        stream = probe.Count(pb.CountRequest(n=100, size=1000))
        next(stream)
        stream.cancel()
        next(probe.Chat(iter(messages)))  # and dropped

    with make_client() as client:
        _, probe = client.dispense("probe")

        def one(number: int) -> None:
            request = pb.EchoRequest(payload=payload)
            metadata = [("want-trailing-key", "value")]
            probe.Echo(request, timeout=DEADLINE)
            _, call = probe.Echo.with_call(request, metadata=metadata)
            assert ("key", "value") in call.trailing_metadata()
            probe.Echo.future(request).result(DEADLINE)
            list(probe.Count(pb.CountRequest(n=2)))
            probe.Sum(iter([pb.SumRequest(value=1)]))
            list(probe.Chat(iter(messages)))
            if number % 6 == 0:
                failed(probe, number)
                cancelled(probe)

        in_thirds(3000, one)


main(cycles, calls)
