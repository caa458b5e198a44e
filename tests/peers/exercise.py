"""Calls of every kind on one channel to what serves Probe, KV and broker.Test.

As Exercise in internal/peer/exercise.go.
"""

from __future__ import annotations

from typing import Any

import grpc
import kv_pb2
import kv_pb2_grpc
import probe_pb2 as pb
import probe_pb2_grpc

TIMEOUT = 60.0
LONG = "0123456789abcdef" * (1 << 12)  # 64 KiB, which metadata and details may have


def unary(stub: Any, channel: Any) -> None:
    metadata = (("want-initial-first", LONG), ("want-trailing-last", LONG))
    request = pb.EchoRequest(payload=b"x")
    reply, call = stub.Echo.with_call(request, timeout=TIMEOUT, metadata=metadata)
    assert reply.payload == b"x"
    assert ("first", LONG) in call.initial_metadata()
    assert ("last", LONG) in call.trailing_metadata()
    request = pb.FailRequest(code=grpc.StatusCode.DATA_LOSS.value[0], details=LONG)
    error = stub.Fail.future(request).exception(TIMEOUT)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, LONG)


def large(stub: Any, channel: Any) -> None:
    payload = b"0123456789abcdef" * (5 << 16)
    assert stub.Echo(pb.EchoRequest(payload=payload), timeout=TIMEOUT).payload == payload


def count(stub: Any, channel: Any) -> None:
    replies = list(stub.Count(pb.CountRequest(n=100, size=10_000), timeout=TIMEOUT))
    assert [reply.number for reply in replies] == list(range(100))
    assert all(len(reply.payload) == 10_000 for reply in replies)


def sum_up(stub: Any, channel: Any) -> None:
    requests = (pb.SumRequest(value=value) for value in range(100))
    assert stub.Sum(requests, timeout=TIMEOUT).total == 4950


def chat(stub: Any, channel: Any) -> None:
    texts = [b"message %d" % number for number in range(100)]
    requests = (pb.ChatMessage(payload=text) for text in texts)
    assert [reply.payload for reply in stub.Chat(requests, timeout=TIMEOUT)] == texts


def deadline(stub: Any, channel: Any) -> None:
    error = stub.Hang.future(pb.HangRequest(), timeout=0.1).exception(TIMEOUT)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error


def cancel(stub: Any, channel: Any) -> None:
    replies = stub.Count(pb.CountRequest(n=(1 << 31) - 1), timeout=TIMEOUT)
    next(replies)
    replies.cancel()
    try:
        for _ in replies:
            pass
    except grpc.RpcError:
        pass
    assert replies.code() is grpc.StatusCode.CANCELLED


def services(stub: Any, channel: Any) -> None:
    kv = kv_pb2_grpc.KVStub(channel)
    kv.Put(kv_pb2.PutRequest(key="k", value=b"v"), timeout=TIMEOUT)
    assert kv.Get(kv_pb2.GetRequest(key="k"), timeout=TIMEOUT).value == b"v"
    assert channel.unary_unary("/broker.Test/Echo")(b"x", timeout=TIMEOUT).endswith(b": x")


EXERCISES = {
    "unary": unary,
    "large": large,
    "count": count,
    "sum": sum_up,
    "chat": chat,
    "deadline": deadline,
    "cancel": cancel,
    "services": services,
}
ALL = " ".join(EXERCISES)


def exercise(channel: Any) -> str:
    """Make all of them. Returns: their names."""
    stub = probe_pb2_grpc.ProbeStub(channel)
    for one in EXERCISES.values():
        one(stub, channel)
    return ALL
