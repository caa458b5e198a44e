"""Metadata, all ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from stage import DEADLINE, Code, Stage, raised, received, replies


def test_metadata(probe: Any, pb: Any) -> None:
    sent = [
        ("plain", "ASCII, and more: ~!"),
        ("raw-bin", b"\x00\xff\n"),
        ("empty", ""),
        ("empty-bin", b""),
        ("twice", "one"),
        ("twice", "two"),
        ("twice-bin", b"\1"),
        ("twice-bin", b"\2"),
    ]
    reply = probe.Echo(pb.EchoRequest(), metadata=sent, timeout=DEADLINE)
    assert received(reply, "plain") == [b"ASCII, and more: ~!"]
    assert received(reply, "raw-bin") == [b"\x00\xff\n"]
    assert received(reply, "empty") == [b""]
    assert received(reply, "empty-bin") == [b""]
    assert received(reply, "twice") == [b"one", b"two"]
    assert received(reply, "twice-bin") == [b"\1", b"\2"]


def test_received_metadata(probe: Any, pb: Any) -> None:
    sent = [
        ("want-initial-a", "1"),
        ("want-initial-a", "2"),
        ("want-initial-b-bin", b"\xff"),
        ("want-trailing-c", "3"),
        ("want-trailing-d-bin", b"\0"),
    ]
    _, call = probe.Echo.with_call(pb.EchoRequest(), metadata=sent, timeout=DEADLINE)
    initial = call.initial_metadata()
    assert [value for key, value in initial if key == "a"] == ["1", "2"]
    assert dict(initial)["b-bin"] == b"\xff"
    trailing = {item.key: item.value for item in call.trailing_metadata()}
    assert trailing["c"] == "3"
    assert trailing["d-bin"] == b"\0"


def test_metadata_of_any_iterable(probe: Any, pb: Any) -> None:
    for metadata in (
        {"key": "value"}.items(),
        (pair for pair in [["key", "value"]]),
        [(b"key", b"value")],
    ):
        reply = probe.Echo(pb.EchoRequest(), metadata=metadata, timeout=DEADLINE)
        assert received(reply, "key") == [b"value"]
    for none in (None, (), []):
        assert probe.Echo(pb.EchoRequest(), metadata=none, timeout=DEADLINE) is not None


@pytest.mark.parametrize(
    ("metadata", "kind", "words"),
    [
        ([("Upper", "x")], ValueError, "metadata was invalid: the key 'Upper'"),
        ([("with space", "x")], ValueError, "the key 'with space'"),
        ([("", "x")], ValueError, "the key ''"),
        ([("key", "new\nline")], ValueError, "the value of 'key'"),
        ([("key", "\N{SNOWMAN}")], ValueError, "'-bin' may carry any bytes"),
        ([("key", 5)], TypeError, "values must be str or bytes, not int: 5"),
        ([("key", None)], TypeError, "values must be str or bytes, not NoneType"),
        ([(5, "x")], TypeError, "keys must be str or bytes, not int"),
        ([("key", "x", "y")], ValueError, r"pairs, not \('key', 'x', 'y'\)"),
        ([5], TypeError, "pairs"),
        (5, TypeError, "pairs"),
    ],
)
@pytest.mark.parametrize("method", ["Echo", "Count", "Sum", "Chat"])
def test_bad_metadata(
    our_probe: Any, pb: Any, metadata: Any, kind: type[Exception], words: str, method: str
) -> None:
    request = {
        "Echo": pb.EchoRequest(),
        "Count": pb.CountRequest(),
    }.get(method, iter(()))
    with pytest.raises(kind, match=words):
        getattr(our_probe, method)(request, metadata=metadata)


def test_metadata_that_change_while_they_are_read(our_probe: Any, pb: Any) -> None:
    class Pair:
        def __iter__(self) -> Any:
            pairs.clear()
            return iter(("a", "b"))

    pairs: list[Any] = [Pair(), ("c", "d"), ("e", "f")]
    our_probe.Echo(pb.EchoRequest(), metadata=pairs, timeout=DEADLINE)
    assert pairs == []


def test_metadata_in_the_handler(stage: Stage) -> None:
    found: list[Any] = []

    def behavior(request: bytes, context: Any) -> bytes:
        found.extend(context.invocation_metadata())
        context.send_initial_metadata([("initial", "1"), ("initial-bin", b"\0")])
        context.set_trailing_metadata([("trailing", "2"), ("trailing", "3")])
        with pytest.raises(ValueError, match="nitial metadata"):
            context.send_initial_metadata([("initial", "too late")])
        return b""

    sent = [("key", "value"), ("key", "again"), ("raw-bin", b"\xff")]
    _, call = stage.call(behavior, metadata=sent)
    assert [item for item in found if item[0] in ("key", "raw-bin")] == sent
    assert all(item.key == item[0] and item.value == item[1] for item in found)
    initial = [tuple(item) for item in call.initial_metadata()]
    assert initial == [("initial", "1"), ("initial-bin", b"\0")]
    assert [tuple(item) for item in call.trailing_metadata()] == [
        ("trailing", "2"),
        ("trailing", "3"),
    ]


def test_initial_metadata_arrive_before_the_first_reply(stage: Stage) -> None:
    go_on = threading.Event()

    def behavior(request: bytes, context: Any) -> Iterator[bytes]:
        context.send_initial_metadata([("key", "value")])
        assert go_on.wait(DEADLINE)
        yield b"1"

    stream = stage.serve({"M": replies(behavior)}).unary_stream("/test.T/M")(b"", timeout=DEADLINE)
    assert ("key", "value") in stream.initial_metadata()
    go_on.set()
    assert list(stream) == [b"1"]


def test_bad_metadata_of_the_handler(our_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda event: lost.append(event.exc_value))

    def behavior(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match="the key 'Upper'"):
            context.send_initial_metadata([("Upper", "x")])
        with pytest.raises(TypeError, match="must be str or bytes"):
            context.send_initial_metadata([("key", 5)])
        context.set_trailing_metadata([("Upper", "x")])
        return b""

    error = raised(lambda: our_stage.call(behavior))
    assert error.code() is Code.UNKNOWN
    assert "trailing metadata that cannot be sent" in error.details()
    assert [type(error) for error in lost] == [ValueError]
