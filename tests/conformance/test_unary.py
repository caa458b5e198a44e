"""Calls with one request and one reply, waited for."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from stage import DEADLINE, Code, Stage, replies, serving, streams


def test_plain_call(probe: Any, pb: Any) -> None:
    assert probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"


def test_request_as_a_keyword(probe: Any, pb: Any) -> None:
    assert probe.Echo(request=pb.EchoRequest(payload=b"x"), timeout=DEADLINE).payload == b"x"
    requests = iter([pb.SumRequest(value=2)])
    assert probe.Sum(request_iterator=requests, timeout=DEADLINE).total == 2


@pytest.mark.parametrize("size", [0, 1, 16384, 5 << 20])
def test_messages_of_any_size(probe: Any, pb: Any, size: int) -> None:
    payload = b"\xa5" * size
    assert probe.Echo(pb.EchoRequest(payload=payload), timeout=DEADLINE).payload == payload


def test_with_call(probe: Any, pb: Any) -> None:
    metadata = (("want-initial-a", "1"), ("want-trailing-b", "2"))
    reply, call = probe.Echo.with_call(
        pb.EchoRequest(payload=b"x"), timeout=DEADLINE, metadata=metadata
    )
    assert reply.payload == b"x"
    assert call.code() is Code.OK
    assert not call.details()
    assert ("a", "1") in call.initial_metadata()
    assert ("b", "2") in call.trailing_metadata()
    assert isinstance(call, grpc.Call)
    assert isinstance(call, grpc.RpcContext)
    assert call.is_active() is False
    assert call.cancel() in (False, None)


def test_without_serializers_messages_are_bytes(channel: Any, pb: Any) -> None:
    echo = channel.unary_unary("/probe.Probe/Echo")
    raw = echo(pb.EchoRequest(payload=b"x").SerializeToString(), timeout=DEADLINE)
    assert pb.EchoReply.FromString(raw).payload == b"x"


def test_bytes_method_and_what_new_generated_code_passes(channel: Any) -> None:
    for name in ("/probe.Probe/Echo", b"/probe.Probe/Echo"):
        assert isinstance(
            channel.unary_unary(name, None, None, _registered_method=True)(b""), bytes
        )


def test_all_kinds_of_calls(client: Any, host: Any) -> None:
    with (
        serving(host) as running,
        client.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        assert list(channel.unary_stream("/t/Count")(b"abc", timeout=DEADLINE)) == [
            b"a",
            b"b",
            b"c",
        ]
        assert channel.stream_unary("/t/Join")(iter([b"a", b"b"]), timeout=DEADLINE) == b"ab"
        chat = channel.stream_stream("/t/Chat")(iter([b"a", b"b"]), timeout=DEADLINE)
        assert list(chat) == [b"a", b"b"]
        assert channel.unary_unary("/t/Echo").future(b"x", timeout=DEADLINE).result() == b"x"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t/None")(b"", timeout=DEADLINE)
        assert caught.value.code() is Code.UNIMPLEMENTED


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_an_end_without_a_reply_gives_none(stage: Stage, kind: str) -> None:
    nothing = {
        "unary_unary": replies(lambda request, context: iter(())),
        "stream_unary": streams(lambda requests, context: iter(())),
    }
    method = getattr(stage.serve({"M": nothing[kind]}), kind)("/test.T/M", None, bytes)
    request: Any = b"x" if kind == "unary_unary" else iter([b"x"])
    assert method(request, timeout=DEADLINE) is None
    request = b"x" if kind == "unary_unary" else iter([b"x"])
    reply, call = method.with_call(request, timeout=DEADLINE)
    assert reply is None
    assert call.code() is Code.OK
    request = b"x" if kind == "unary_unary" else iter([b"x"])
    future = method.future(request, timeout=DEADLINE)
    assert future.result(DEADLINE) is None
    assert future.exception() is None
